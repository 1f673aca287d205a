/* Everything of the dispatcher's at once: threads of all priorities that hop from processor to processor, wait for each kind of object,
 * alone and for several, with timeouts that may or may not come first, while timers, DPCs and calls of every processor come in between.
 * What is counted under a lock has to be exact in the end. */

#include "check.h"

#define THREADS 10
#define ROUNDS 150

static KMUTEX mutex;
static FAST_MUTEX fast;
static KSEMAPHORE tickets;
static KEVENT baton, never, begin;
static KSPIN_LOCK spin, in_stack;
static ERESOURCE resource;
static KQUEUE queue;
static KTIMER timer;
static KDPC timer_dpc, dpcs[8];
static LIST_ENTRY entries[THREADS];

/* Each is only changed by who holds what it is named after. */
static ULONG under_mutex, under_fast, under_spin, under_stack, under_resource, under_baton;
static volatile LONG holders, most_holders, dpc_runs, timer_runs, queue_runs, timeouts, failures, ended, called;

static VOID NTAPI count_dpc(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    (void)first;
    (void)second;
    InterlockedIncrement((volatile LONG *)context);
    if (dpc != &timer_dpc && KeGetCurrentIrql() != DISPATCH_LEVEL)
        InterlockedIncrement(&failures);
}

static ULONG_PTR NTAPI count_call(ULONG_PTR unused)
{
    (void)unused;
    InterlockedIncrement(&called);
    return 0;
}

static VOID NTAPI take_entries(PVOID unused)
{
    (void)unused;
    while ((ULONG_PTR)KeRemoveQueue(&queue, KernelMode, NULL) != STATUS_ABANDONED)
        InterlockedIncrement(&queue_runs);
}

static void expect_success(NTSTATUS status)
{
    if (status != STATUS_SUCCESS)
        InterlockedIncrement(&failures);
}

static void once(ULONG number, ULONG round)
{
    LARGE_INTEGER soon = after_us(50 + round * 7 % 300);
    PVOID both[2] = { &mutex, &tickets };
    PVOID any[3] = { &never, &baton, &tickets };
    KLOCK_QUEUE_HANDLE handle;
    KIRQL old;
    LONG now_holding;

    switch ((number + round) % 10) {
    case 0:
        expect_success(KeWaitForSingleObject(&mutex, Executive, KernelMode, FALSE, NULL));
        expect_success(KeWaitForSingleObject(&mutex, Executive, KernelMode, FALSE, NULL));
        under_mutex++;
        KeReleaseMutex(&mutex, FALSE);
        KeReleaseMutex(&mutex, FALSE);
        break;
    case 1:
        ExAcquireFastMutex(&fast);
        under_fast++;
        ExReleaseFastMutex(&fast);
        break;
    case 2:
        KeAcquireSpinLock(&spin, &old);
        under_spin++;
        KeReleaseSpinLock(&spin, old);
        KeAcquireInStackQueuedSpinLock(&in_stack, &handle);
        under_stack++;
        KeReleaseInStackQueuedSpinLock(&handle);
        break;
    case 3:
        ExEnterCriticalRegionAndAcquireResourceExclusive(&resource);
        under_resource++;
        ExConvertExclusiveToSharedLite(&resource);
        ExReleaseResourceAndLeaveCriticalRegion(&resource);
        break;
    case 4:
        expect_success(KeWaitForSingleObject(&baton, Executive, KernelMode, FALSE, NULL));
        under_baton++;
        KeSetEvent(&baton, (KPRIORITY)(round % 4), FALSE);
        break;
    case 5:
        expect_success(KeWaitForSingleObject(&tickets, Executive, KernelMode, FALSE, NULL));
        now_holding = InterlockedIncrement(&holders);
        if (now_holding > 3)
            InterlockedExchange(&most_holders, now_holding);
        KeStallExecutionProcessor(2);
        InterlockedDecrement(&holders);
        KeReleaseSemaphore(&tickets, 1, 1, FALSE);
        break;
    case 6:
        expect_success(KeWaitForMultipleObjects(2, both, WaitAll, Executive, KernelMode, FALSE, NULL, NULL));
        under_mutex++;
        KeReleaseSemaphore(&tickets, 0, 1, FALSE);
        KeReleaseMutex(&mutex, FALSE);
        break;
    case 7:
        switch (KeWaitForMultipleObjects(3, any, WaitAny, Executive, KernelMode, FALSE, &soon, NULL)) {
        case STATUS_WAIT_1:
            under_baton++;
            KeSetEvent(&baton, 0, FALSE);
            break;
        case STATUS_WAIT_2:
            KeReleaseSemaphore(&tickets, 0, 1, FALSE);
            break;
        case STATUS_TIMEOUT:
            InterlockedIncrement(&timeouts);
            break;
        default:
            InterlockedIncrement(&failures);
        }
        break;
    case 8:
        KeInsertQueueDpc(&dpcs[round % 8], NULL, NULL);
        KeSetTimer(&timer, soon, &timer_dpc);
        if (KeWaitForSingleObject(&never, Executive, KernelMode, FALSE, &soon) != STATUS_TIMEOUT)
            InterlockedIncrement(&failures);
        InterlockedIncrement(&timeouts);
        break;
    default:
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        KeSetSystemAffinityThreadEx((KAFFINITY)1 << (round % KeQueryActiveProcessorCount(NULL)));
        KeLowerIrql(old);
        if (KeGetCurrentProcessorNumber() != round % KeQueryActiveProcessorCount(NULL))
            InterlockedIncrement(&failures);
        KeRevertToUserAffinityThreadEx(0);
        if (round % 40 == 9)
            KeIpiGenericCall(count_call, 0);
    }
    if (KeGetCurrentIrql() != PASSIVE_LEVEL || KeAreApcsDisabled())
        InterlockedIncrement(&failures);
}

/* ntoskrnl exports them, and no header of the driver kit's declares them. */
NTSYSAPI VOID NTAPI KeGenericCallDpc(PKDEFERRED_ROUTINE routine, PVOID context);
NTSYSAPI VOID NTAPI KeSignalCallDpcDone(PVOID argument1);
NTSYSAPI LOGICAL NTAPI KeSignalCallDpcSynchronize(PVOID argument2);

static volatile LONG dpc_calls, dpc_meetings, dpc_early;

/* Each meets the others, looks whether all have come, and meets them again before it goes. */
static VOID NTAPI everywhere(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
    InterlockedIncrement(&dpc_calls);
    if (KeSignalCallDpcSynchronize(argument2))
        InterlockedIncrement(&dpc_meetings);
    if (dpc_calls % (LONG)(ULONG_PTR)context || KeGetCurrentIrql() != DISPATCH_LEVEL)
        InterlockedIncrement(&dpc_early);
    KeSignalCallDpcSynchronize(argument2);
    KeSignalCallDpcDone(argument1);
}

static VOID NTAPI calls_everywhere(PVOID context)
{
    for (int i = 0; i < 20; i++)
        KeGenericCallDpc(everywhere, context);
}

static VOID NTAPI storm(PVOID context)
{
    ULONG number = (ULONG)(ULONG_PTR)context;
    KeSetPriorityThread(KeGetCurrentThread(), (KPRIORITY)(6 + number % 5));
    KeWaitForSingleObject(&begin, Executive, KernelMode, FALSE, NULL);
    for (ULONG round = 0; round < ROUNDS; round++)
        once(number, round);
    KeInsertQueue(&queue, &entries[number]);
    InterlockedIncrement(&ended);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    PKTHREAD threads[THREADS], takers[3];
    ULONG processors = KeQueryActiveProcessorCount(NULL);
    const ULONG each = THREADS * ROUNDS / 10;

    (void)driver;
    (void)path;
    KeInitializeMutex(&mutex, 0);
    ExInitializeFastMutex(&fast);
    KeInitializeSemaphore(&tickets, 3, 3);
    KeInitializeEvent(&baton, SynchronizationEvent, TRUE);
    KeInitializeEvent(&never, NotificationEvent, FALSE);
    KeInitializeEvent(&begin, NotificationEvent, FALSE);
    KeInitializeSpinLock(&spin);
    KeInitializeSpinLock(&in_stack);
    ExInitializeResourceLite(&resource);
    KeInitializeQueue(&queue, 2);
    KeInitializeTimerEx(&timer, SynchronizationTimer);
    KeInitializeDpc(&timer_dpc, count_dpc, (PVOID)&timer_runs);
    for (ULONG i = 0; i < 8; i++) {
        KeInitializeDpc(&dpcs[i], count_dpc, (PVOID)&dpc_runs);
        KeSetTargetProcessorDpc(&dpcs[i], (CCHAR)(i % processors));
        KeSetImportanceDpc(&dpcs[i], i % 3);
    }
    for (ULONG i = 0; i < 3; i++)
        takers[i] = start_thread(take_entries, NULL);
    for (ULONG i = 0; i < THREADS; i++)
        threads[i] = start_thread(storm, (PVOID)(ULONG_PTR)i);

    RULE("Kernel Dispatcher Objects", "threads that use all of them at once come to their end") {
        KeSetEvent(&begin, 3, FALSE);
        for (ULONG i = 0; i < THREADS; i++)
            join_thread(threads[i]);
        EXPECT_EQ(ended, THREADS);
        EXPECT_EQ(failures, 0);
    }
    RULE("Mutex Objects", "what is counted under a mutex is exact, acquired alone or together with another object") {
        EXPECT_EQ(under_mutex, 2 * each);
        EXPECT_EQ(KeReadStateMutex(&mutex), 1);
    }
    RULE("Fast Mutexes and Guarded Mutexes", "what is counted under a fast mutex is exact") {
        EXPECT_EQ(under_fast, each);
    }
    RULE("Introduction to Spin Locks", "what is counted under a spin lock is exact, queued or not") {
        EXPECT_EQ(under_spin, each);
        EXPECT_EQ(under_stack, each);
    }
    RULE("Introduction to ERESOURCE Routines", "what is counted with exclusive access is exact") {
        EXPECT_EQ(under_resource, each);
        EXPECT_EQ(ExGetExclusiveWaiterCount(&resource) + ExGetSharedWaiterCount(&resource), 0);
        EXPECT_STATUS(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
    }
    RULE("Semaphore Objects", "never more threads than its limit; every count comes back") {
        EXPECT_EQ(most_holders, 0);
        EXPECT_EQ(KeReadStateSemaphore(&tickets), 3);
    }
    RULE("Event Objects", "a synchronization event is one thread's at a time, and is not lost") {
        EXPECT(under_baton >= each);
        EXPECT(KeReadStateEvent(&baton));
        EXPECT(timeouts >= (LONG)each);
    }
    RULE("KeFlushQueuedDpcs function", "then every DPC has run, of any importance, on any processor") {
        KeCancelTimer(&timer);
        KeFlushQueuedDpcs();
        EXPECT(dpc_runs > 0 && timer_runs > 0);
        for (ULONG i = 0; i < 8; i++)
            EXPECT(!KeRemoveQueueDpc(&dpcs[i]));
    }
    RULE("KeIpiGenericCall function", "each call has run once on every processor") {
        EXPECT(called > 0 && called % (LONG)processors == 0);
    }
    RULE("KeGenericCallDpc", "the routine is a DPC of every processor; all meet in KeSignalCallDpcSynchronize, and one is told TRUE") {
        for (int i = 0; i < 20; i++)
            KeGenericCallDpc(everywhere, (PVOID)(ULONG_PTR)processors);
        EXPECT_EQ(dpc_calls, 20 * processors);
        EXPECT_EQ(dpc_meetings, 20);
        EXPECT_EQ(dpc_early, 0);
    }
    RULE("KeGenericCallDpc", "two that call at the same time come to their end, one after the other") {
        PKTHREAD callers[2];
        dpc_calls = 0;
        for (int i = 0; i < 2; i++)
            callers[i] = start_thread(calls_everywhere, (PVOID)(ULONG_PTR)processors);
        for (int i = 0; i < 2; i++)
            join_thread(callers[i]);
        EXPECT_EQ(dpc_calls, 40 * processors);
    }
    RULE("KeRemoveQueue function", "each entry was taken once") {
        for (int i = 0; i < 5000 && queue_runs < THREADS; i++)
            sleep_us(1000);
        EXPECT_EQ(queue_runs, THREADS);
        sleep_us(10000);
        EXPECT_EQ(KeRundownQueue(&queue), NULL);
        for (ULONG i = 0; i < 3; i++)
            join_thread(takers[i]);
    }
}

SUITE("ke_storm")
