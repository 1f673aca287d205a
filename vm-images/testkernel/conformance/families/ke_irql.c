/* IRQL, spin locks, DPCs, processors, clocks. */
#include <check.h>

static ULONG processors;

static void levels(void)
{
    KIRQL old, older;

    RULE("DRIVER_INITIALIZE callback function", "DriverEntry runs at PASSIVE_LEVEL in a system thread") {
        EXPECT_PASSIVE();
        EXPECT(PsIsSystemThread(PsGetCurrentThread()));
    }
    RULE("KeRaiseIrql macro", "stores the old level and raises to the new one") {
        KeRaiseIrql(APC_LEVEL, &old);
        EXPECT_EQ(old, PASSIVE_LEVEL);
        EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
        KeRaiseIrql(DISPATCH_LEVEL, &older);
        EXPECT_EQ(older, APC_LEVEL);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(older);
        EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
        KeLowerIrql(old);
        EXPECT_PASSIVE();
    }
    RULE("KeRaiseIrql macro", "to the present level is allowed") {
        KeRaiseIrql(PASSIVE_LEVEL, &old);
        EXPECT_EQ(old, PASSIVE_LEVEL);
        KeLowerIrql(old);
        EXPECT_PASSIVE();
    }
    RULE("KeRaiseIrqlToDpcLevel function", "returns the old level") {
        old = KeRaiseIrqlToDpcLevel();
        EXPECT_EQ(old, PASSIVE_LEVEL);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(old);
    }
    RULE("Managing Hardware Priorities", "at DISPATCH_LEVEL a thread is not preempted and keeps its processor") {
        ULONG here, there;
        old = KeRaiseIrqlToDpcLevel();
        here = KeGetCurrentProcessorNumber();
        KeStallExecutionProcessor(3000);
        there = KeGetCurrentProcessorNumber();
        KeLowerIrql(old);
        EXPECT_EQ(here, there);
    }
}

static KSPIN_LOCK lock;
static volatile LONG inside, most_inside, counter;

static VOID NTAPI count_under_lock(PVOID context)
{
    KIRQL irql;
    for (int i = 0; i < 500; i++) {
        KeAcquireSpinLock(&lock, &irql);
        LONG now = ++inside;
        if (now > most_inside)
            most_inside = now;
        counter++;
        inside--;
        KeReleaseSpinLock(&lock, irql);
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void spin_locks(void)
{
    KIRQL irql;
    PKTHREAD threads[4];

    KeInitializeSpinLock(&lock);
    RULE("KeAcquireSpinLock macro", "raises to DISPATCH_LEVEL and stores the old level; the release restores it") {
        KeAcquireSpinLock(&lock, &irql);
        EXPECT_EQ(irql, PASSIVE_LEVEL);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeReleaseSpinLock(&lock, irql);
        EXPECT_PASSIVE();
    }
    RULE("KeAcquireSpinLockAtDpcLevel macro", "does not change the level") {
        irql = KeRaiseIrqlToDpcLevel();
        KeAcquireSpinLockAtDpcLevel(&lock);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeReleaseSpinLockFromDpcLevel(&lock);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(irql);
    }
    RULE("KeTryToAcquireSpinLockAtDpcLevel function", "TRUE where it was free, FALSE where it is held") {
        irql = KeRaiseIrqlToDpcLevel();
        EXPECT(KeTryToAcquireSpinLockAtDpcLevel(&lock));
        EXPECT(!KeTryToAcquireSpinLockAtDpcLevel(&lock));
        KeReleaseSpinLockFromDpcLevel(&lock);
        KeLowerIrql(irql);
    }
    RULE("KeTestSpinLock function", "TRUE where the lock is free") {
        irql = KeRaiseIrqlToDpcLevel();
        EXPECT(KeTestSpinLock(&lock));
        KeAcquireSpinLockAtDpcLevel(&lock);
        EXPECT(!KeTestSpinLock(&lock));
        KeReleaseSpinLockFromDpcLevel(&lock);
        KeLowerIrql(irql);
    }
    RULE("Introduction to Spin Locks", "one holder at a time, on every processor") {
        inside = most_inside = counter = 0;
        for (int i = 0; i < 4; i++)
            threads[i] = start_thread(count_under_lock, NULL);
        for (int i = 0; i < 4; i++)
            join_thread(threads[i]);
        EXPECT_EQ(counter, 2000);
        EXPECT_EQ(most_inside, 1);
    }
    RULE("KeAcquireInStackQueuedSpinLock function", "raises to DISPATCH_LEVEL; the release restores the level") {
        KLOCK_QUEUE_HANDLE handle;
        KSPIN_LOCK queued;
        KeInitializeSpinLock(&queued);
        KeAcquireInStackQueuedSpinLock(&queued, &handle);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeReleaseInStackQueuedSpinLock(&handle);
        EXPECT_PASSIVE();
    }
}

static struct {
    KDPC dpc, second;
    volatile LONG runs, order, second_order, processor;
    KIRQL irql;
    PVOID context, argument1, argument2;
    KEVENT ran;
} dpcs;

static VOID NTAPI dpc_routine(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    dpcs.irql = KeGetCurrentIrql();
    dpcs.context = context;
    dpcs.argument1 = argument1;
    dpcs.argument2 = argument2;
    dpcs.processor = (LONG)KeGetCurrentProcessorNumber();
    InterlockedIncrement(&dpcs.runs);
    KeSetEvent(&dpcs.ran, 0, FALSE);
}

static VOID NTAPI first_in_order(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    dpcs.order = InterlockedIncrement(&dpcs.runs);
}

static VOID NTAPI second_in_order(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    dpcs.second_order = InterlockedIncrement(&dpcs.runs);
}

static void dpcs_run(void)
{
    KIRQL irql;
    LARGE_INTEGER soon = after_us(5000000);

    KeInitializeEvent(&dpcs.ran, SynchronizationEvent, FALSE);
    KeInitializeDpc(&dpcs.dpc, dpc_routine, &dpcs);
    RULE("KeInsertQueueDpc function", "TRUE where it was queued; FALSE where it is in a queue already") {
        dpcs.runs = 0;
        irql = KeRaiseIrqlToDpcLevel();
        EXPECT(KeInsertQueueDpc(&dpcs.dpc, (PVOID)1, (PVOID)2));
        EXPECT(!KeInsertQueueDpc(&dpcs.dpc, (PVOID)3, (PVOID)4));
        EXPECT_EQ(dpcs.runs, 0);
        KeLowerIrql(irql);
        KeWaitForSingleObject(&dpcs.ran, Executive, KernelMode, FALSE, &soon);
        EXPECT_EQ(dpcs.runs, 1);
    }
    RULE("KDEFERRED_ROUTINE callback function", "runs at DISPATCH_LEVEL with its context and the first call's arguments") {
        EXPECT_EQ(dpcs.irql, DISPATCH_LEVEL);
        EXPECT_EQ(dpcs.context, &dpcs);
        EXPECT_EQ(dpcs.argument1, 1);
        EXPECT_EQ(dpcs.argument2, 2);
    }
    RULE("KeInsertQueueDpc function", "a DPC of the own processor's queue runs before the level falls below DISPATCH_LEVEL") {
        dpcs.runs = 0;
        irql = KeRaiseIrqlToDpcLevel();
        KeInsertQueueDpc(&dpcs.dpc, NULL, NULL);
        KeLowerIrql(irql);
        EXPECT_EQ(dpcs.runs, 1);
        KeResetEvent(&dpcs.ran);
    }
    RULE("KeRemoveQueueDpc function", "TRUE where it took the DPC out of the queue, FALSE where it was in none") {
        dpcs.runs = 0;
        EXPECT(!KeRemoveQueueDpc(&dpcs.dpc));
        irql = KeRaiseIrqlToDpcLevel();
        KeInsertQueueDpc(&dpcs.dpc, NULL, NULL);
        EXPECT(KeRemoveQueueDpc(&dpcs.dpc));
        KeLowerIrql(irql);
        KeFlushQueuedDpcs();
        EXPECT_EQ(dpcs.runs, 0);
    }
    RULE("Introduction to DPC Objects", "DPCs of medium importance run in the order in which they were queued") {
        dpcs.runs = 0;
        KeInitializeDpc(&dpcs.dpc, first_in_order, NULL);
        KeInitializeDpc(&dpcs.second, second_in_order, NULL);
        irql = KeRaiseIrqlToDpcLevel();
        KeInsertQueueDpc(&dpcs.dpc, NULL, NULL);
        KeInsertQueueDpc(&dpcs.second, NULL, NULL);
        KeLowerIrql(irql);
        EXPECT_EQ(dpcs.order, 1);
        EXPECT_EQ(dpcs.second_order, 2);
    }
    RULE("KeSetImportanceDpc function", "a DPC of high importance goes to the beginning of the queue") {
        dpcs.runs = 0;
        KeSetImportanceDpc(&dpcs.second, HighImportance);
        irql = KeRaiseIrqlToDpcLevel();
        KeInsertQueueDpc(&dpcs.dpc, NULL, NULL);
        KeInsertQueueDpc(&dpcs.second, NULL, NULL);
        KeLowerIrql(irql);
        EXPECT_EQ(dpcs.second_order, 1);
        EXPECT_EQ(dpcs.order, 2);
    }
    RULE("KeSetTargetProcessorDpc function", "the DPC runs on the processor that was chosen") {
        KeInitializeDpc(&dpcs.dpc, dpc_routine, &dpcs);
        for (ULONG target = 0; target < processors; target++) {
            KeSetTargetProcessorDpc(&dpcs.dpc, (CCHAR)target);
            KeInsertQueueDpc(&dpcs.dpc, NULL, NULL);
            EXPECT_STATUS(KeWaitForSingleObject(&dpcs.ran, Executive, KernelMode, FALSE, &soon), STATUS_SUCCESS);
            EXPECT_EQ(dpcs.processor, target);
        }
    }
    RULE("KeSetTargetProcessorDpcEx function", "STATUS_INVALID_PARAMETER for a processor that is not there") {
        PROCESSOR_NUMBER number = { 0, 63, 0 };
        EXPECT_STATUS(KeSetTargetProcessorDpcEx(&dpcs.dpc, &number), STATUS_INVALID_PARAMETER);
        number.Number = 0;
        EXPECT_STATUS(KeSetTargetProcessorDpcEx(&dpcs.dpc, &number), STATUS_SUCCESS);
    }
    RULE("KeFlushQueuedDpcs function", "returns after every DPC that was queued before has run, on all processors") {
        dpcs.runs = 0;
        for (ULONG target = 0; target < processors; target++) {
            LONG before = dpcs.runs;
            KeInitializeDpc(&dpcs.dpc, dpc_routine, &dpcs);
            KeSetTargetProcessorDpc(&dpcs.dpc, (CCHAR)target);
            KeInsertQueueDpc(&dpcs.dpc, NULL, NULL);
            KeFlushQueuedDpcs();
            EXPECT_EQ(dpcs.runs, before + 1);
        }
        KeResetEvent(&dpcs.ran);
    }
    RULE("KeInitializeThreadedDpc function", "a threaded DPC runs") {
        dpcs.runs = 0;
        KeInitializeThreadedDpc(&dpcs.dpc, dpc_routine, &dpcs);
        EXPECT(KeInsertQueueDpc(&dpcs.dpc, NULL, NULL));
        EXPECT_STATUS(KeWaitForSingleObject(&dpcs.ran, Executive, KernelMode, FALSE, &soon), STATUS_SUCCESS);
        EXPECT_EQ(dpcs.runs, 1);
        KeFlushQueuedDpcs();
    }
    RULE("KeSetTimer function", "a timer's DPC is queued when it expires, with the timer's own arguments") {
        KTIMER timer;
        KeInitializeDpc(&dpcs.dpc, dpc_routine, &dpcs);
        KeInitializeTimer(&timer);
        dpcs.runs = 0;
        KeSetTimer(&timer, after_us(1000), &dpcs.dpc);
        EXPECT_STATUS(KeWaitForSingleObject(&dpcs.ran, Executive, KernelMode, FALSE, &soon), STATUS_SUCCESS);
        EXPECT_EQ(dpcs.irql, DISPATCH_LEVEL);
        EXPECT_EQ(dpcs.context, &dpcs);
        EXPECT_EQ(dpcs.runs, 1);
        KeFlushQueuedDpcs();
    }
    RULE("KeCancelTimer function", "the DPC of a cancelled timer does not run") {
        KTIMER timer;
        KeInitializeTimer(&timer);
        dpcs.runs = 0;
        KeSetTimer(&timer, after_us(20000), &dpcs.dpc);
        EXPECT(KeCancelTimer(&timer));
        sleep_us(30000);
        EXPECT_EQ(dpcs.runs, 0);
    }
    RULE("KeSetTimerEx function", "a periodic timer queues its DPC each period until it is cancelled") {
        KTIMER timer;
        LONG runs;
        KeInitializeTimer(&timer);
        dpcs.runs = 0;
        KeSetTimerEx(&timer, after_us(1000), 2, &dpcs.dpc);
        for (int i = 0; i < 1000 && dpcs.runs < 4; i++)
            sleep_us(1000);
        EXPECT(dpcs.runs >= 4);
        EXPECT(KeCancelTimer(&timer));
        KeFlushQueuedDpcs();
        runs = dpcs.runs;
        sleep_us(10000);
        EXPECT_EQ(dpcs.runs, runs);
    }
}

static volatile LONG called;
static KIRQL ipi_irql;

static ULONG_PTR NTAPI on_every_processor(ULONG_PTR argument)
{
    InterlockedIncrement(&called);
    ipi_irql = KeGetCurrentIrql();
    return argument + 1;
}

static void machine(void)
{
    RULE("KeQueryActiveProcessorCountEx function", "agrees with the set of active processors") {
        KAFFINITY set = 0;
        ULONG count = KeQueryActiveProcessorCount(&set);
        ULONG bits = 0;
        for (KAFFINITY rest = set; rest; rest &= rest - 1)
            bits++;
        EXPECT_EQ(count, bits);
        EXPECT_EQ(KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS), count);
        EXPECT_EQ(KeQueryActiveProcessorCountEx(0), count);
        EXPECT_EQ(KeQueryActiveProcessors(), set);
        EXPECT(KeQueryMaximumProcessorCount() >= count);
    }
    RULE("KeQueryActiveGroupCount function", "fewer than 64 processors are one group") {
        EXPECT_EQ(KeQueryActiveGroupCount(), 1);
        EXPECT(KeQueryMaximumGroupCount() >= 1);
    }
    RULE("KeGetCurrentProcessorNumberEx function", "stores group and number; returns the system-wide index") {
        PROCESSOR_NUMBER number;
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        ULONG index = KeGetCurrentProcessorNumberEx(&number);
        ULONG legacy = KeGetCurrentProcessorNumber();
        KeLowerIrql(irql);
        EXPECT_EQ(number.Group, 0);
        EXPECT_EQ(number.Number, index);
        EXPECT_EQ(legacy, index);
        EXPECT(index < processors);
    }
    RULE("KeSetSystemAffinityThreadEx function", "moves the thread; reverting to what it returned undoes it") {
        for (ULONG i = 0; i < processors; i++) {
            KAFFINITY before = KeSetSystemAffinityThreadEx((KAFFINITY)1 << i);
            EXPECT_EQ(KeGetCurrentProcessorNumber(), i);
            KeRevertToUserAffinityThreadEx(before);
        }
    }
    RULE("KeIpiGenericCall function", "runs once on every processor at IPI_LEVEL; returns the caller's own result") {
        called = 0;
        EXPECT_EQ(KeIpiGenericCall(on_every_processor, 41), 42);
        EXPECT_EQ(called, processors);
        EXPECT_EQ(ipi_irql, IPI_LEVEL);
        EXPECT_PASSIVE();
    }
    RULE("KeQueryPerformanceCounter function", "does not go back, and tells its frequency") {
        LARGE_INTEGER frequency, a, b;
        a = KeQueryPerformanceCounter(&frequency);
        b = KeQueryPerformanceCounter(NULL);
        EXPECT(frequency.QuadPart > 0);
        EXPECT(b.QuadPart >= a.QuadPart);
    }
    RULE("KeQueryPerformanceCounter function", "its frequency is true: a stall of 2 ms counts as at least that") {
        LARGE_INTEGER frequency, a, b;
        a = KeQueryPerformanceCounter(&frequency);
        KeStallExecutionProcessor(2000);
        b = KeQueryPerformanceCounter(NULL);
        EXPECT((b.QuadPart - a.QuadPart) * 1000000 / frequency.QuadPart >= 1900);
    }
    RULE("KeQueryTimeIncrement function", "a clock tick between 0.5 and 15.625 ms") {
        ULONG increment = KeQueryTimeIncrement();
        EXPECT(increment >= 5000 && increment <= 156250);
    }
    RULE("KeQueryTickCount macro", "counts clock ticks") {
        LARGE_INTEGER a, b;
        KeQueryTickCount(&a);
        sleep_us(KeQueryTimeIncrement() / 10 * 3);
        KeQueryTickCount(&b);
        EXPECT(b.QuadPart - a.QuadPart >= 2);
    }
    RULE("KeQuerySystemTime macro", "counts 100 ns since 1601: past the year 2000 and moving") {
        LARGE_INTEGER a, b;
        KeQuerySystemTime(&a);
        sleep_us(5000);
        KeQuerySystemTime(&b);
        EXPECT(a.QuadPart > 125911584000000000LL);
        EXPECT(b.QuadPart > a.QuadPart);
    }
    RULE("KeQueryInterruptTime function", "moves with the clock and may be read at any level") {
        ULONGLONG a = KeQueryInterruptTime(), b;
        KIRQL irql;
        sleep_us(5000);
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        b = KeQueryInterruptTime();
        KeLowerIrql(irql);
        EXPECT(b > a);
    }
    RULE("KUSER_SHARED_DATA structure", "the page at 0xFFFFF78000000000 has interrupt and system time") {
        /* Not by the macro: mingw-w64 gives it a suffix that gcc does not know. */
        const volatile KUSER_SHARED_DATA *shared_page = (const volatile KUSER_SHARED_DATA *)0xFFFFF78000000000ULL;
        ULONGLONG queried = KeQueryInterruptTime();
        ULONGLONG shared = shared_page->InterruptTime.LowPart |
                           (ULONGLONG)shared_page->InterruptTime.High1Time << 32;
        EXPECT(shared >= queried && shared - queried < 10000000);
    }
    RULE("KeStallExecutionProcessor function", "takes at least as long as asked for") {
        LARGE_INTEGER frequency, a = KeQueryPerformanceCounter(&frequency), b;
        KeStallExecutionProcessor(50);
        b = KeQueryPerformanceCounter(NULL);
        EXPECT((b.QuadPart - a.QuadPart) * 1000000 / frequency.QuadPart >= 49);
    }
}

static void regions(void)
{
    RULE("KeEnterCriticalRegion function", "APCs are disabled until as many leaves") {
        EXPECT(!KeAreApcsDisabled());
        KeEnterCriticalRegion();
        KeEnterCriticalRegion();
        EXPECT(KeAreApcsDisabled());
        KeLeaveCriticalRegion();
        EXPECT(KeAreApcsDisabled());
        KeLeaveCriticalRegion();
        EXPECT(!KeAreApcsDisabled());
    }
    RULE("KeAreAllApcsDisabled function", "TRUE in a guarded region and at APC_LEVEL, not in a critical region") {
        KIRQL irql;
        KeEnterCriticalRegion();
        EXPECT(!KeAreAllApcsDisabled());
        KeLeaveCriticalRegion();
        KeEnterGuardedRegion();
        EXPECT(KeAreAllApcsDisabled());
        KeLeaveGuardedRegion();
        KeRaiseIrql(APC_LEVEL, &irql);
        EXPECT(KeAreAllApcsDisabled());
        KeLowerIrql(irql);
        EXPECT(!KeAreAllApcsDisabled());
    }
    RULE("KeSetPriorityThread function", "returns the old priority and sets the new one") {
        KPRIORITY old = KeSetPriorityThread(KeGetCurrentThread(), LOW_REALTIME_PRIORITY);
        EXPECT_EQ(KeQueryPriorityThread(KeGetCurrentThread()), LOW_REALTIME_PRIORITY);
        EXPECT_EQ(KeSetPriorityThread(KeGetCurrentThread(), old), LOW_REALTIME_PRIORITY);
        EXPECT_EQ(KeQueryPriorityThread(KeGetCurrentThread()), old);
    }
}

static void fpu(void)
{
    RULE("Using Floating Point in a WDM Driver", "SSE registers survive a wait and DPCs") {
        double value = (double)processors + 0.5, other;
        sleep_us(3000);
        other = value * 4.0;
        EXPECT_EQ((LONG)other, (LONG)(processors * 4 + 2));
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    processors = KeQueryActiveProcessorCount(NULL);
    levels();
    spin_locks();
    dpcs_run();
    machine();
    regions();
    fpu();
}

SUITE("Ke IRQL, DPC, clocks")
