/* The kernel proper, second part: what signals and waits do to priorities and levels, mutants, queues, affinity, what lies at fixed places. */

#include "check.h"
#include "try.h"

GUARD(guarded, ".rva try_take")

static KEVENT gate, answer;
static KMUTANT mutant;
static KMUTEX mutex;
static KSEMAPHORE semaphore;

/* A thread that waits once, and what it saw when it went on. */
struct waiter {
    PVOID object;
    volatile LONG waiting;
    volatile LONG level;
    volatile LONG priority;
    volatile NTSTATUS status;
};

static VOID NTAPI wait_once(PVOID context)
{
    struct waiter *me = context;
    InterlockedIncrement(&me->waiting);
    me->status = KeWaitForSingleObject(me->object, Executive, KernelMode, FALSE, NULL);
    me->priority = KeQueryPriorityThread(KeGetCurrentThread());
    me->level = KeGetCurrentIrql();
}

/* Starts one and lets it come to wait. */
static PKTHREAD start_waiter(struct waiter *waiter, PVOID object)
{
    PKTHREAD thread;
    RtlZeroMemory(waiter, sizeof(*waiter));
    waiter->object = object;
    thread = start_thread(wait_once, waiter);
    while (thread && !waiter->waiting)
        sleep_us(200);
    sleep_us(20000);
    return thread;
}

static LARGE_INTEGER now;

static NTSTATUS look(PVOID object)
{
    return KeWaitForSingleObject(object, Executive, KernelMode, FALSE, &now);
}

static void release_mutant(PVOID unused)
{
    (void)unused;
    KeReleaseMutant(&mutant, 0, FALSE, FALSE);
}

static void release_mutex(PVOID unused)
{
    (void)unused;
    KeReleaseMutex(&mutex, FALSE);
}

static void release_semaphore(PVOID unused)
{
    (void)unused;
    KeReleaseSemaphore(&semaphore, 0, 2, FALSE);
}

static VOID NTAPI take_and_end(PVOID object)
{
    KeWaitForSingleObject(object, Executive, KernelMode, FALSE, NULL);
    KeWaitForSingleObject(object, Executive, KernelMode, FALSE, NULL);
}

static VOID NTAPI abandon(PVOID unused)
{
    (void)unused;
    KeReleaseMutant(&mutant, 0, TRUE, FALSE);
}

/* Answers every signal of the gate by a pulse: whoever does not wait yet misses it. */
static VOID NTAPI pulse_back(PVOID unused)
{
    (void)unused;
    KeSetPriorityThread(KeGetCurrentThread(), LOW_REALTIME_PRIORITY);
    for (int i = 0; i < 50; i++) {
        KeWaitForSingleObject(&gate, Executive, KernelMode, FALSE, NULL);
        KePulseEvent(&answer, 0, FALSE);
    }
}

static volatile LONG raised_to, worn_down_to;

static VOID NTAPI runs_on(PVOID unused)
{
    ULONGLONG end;
    (void)unused;
    KeWaitForSingleObject(&gate, Executive, KernelMode, FALSE, NULL);
    raised_to = KeQueryPriorityThread(KeGetCurrentThread());
    for (end = now_100ns() + 100000000; now_100ns() < end && KeQueryPriorityThread(KeGetCurrentThread()) > 8;)
        YieldProcessor();
    worn_down_to = KeQueryPriorityThread(KeGetCurrentThread());
}

static void check_signals(void)
{
    struct waiter waiter;
    PKTHREAD thread;
    LARGE_INTEGER second = after_us(1000000);

    RULE("KeSetEvent function", "Wait TRUE: stays at DISPATCH_LEVEL until the wait that follows, which restores the level") {
        KeInitializeEvent(&gate, NotificationEvent, FALSE);
        EXPECT_EQ(KeSetEvent(&gate, 0, TRUE), 0);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        EXPECT_STATUS(KeWaitForSingleObject(&gate, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_PASSIVE();
        EXPECT(KeSetEvent(&gate, 0, TRUE) != 0);
        KeClearEvent(&gate);
        EXPECT_STATUS(KeWaitForSingleObject(&gate, Executive, KernelMode, FALSE, &now), STATUS_TIMEOUT);
        EXPECT_PASSIVE();
    }
    RULE("KeSetEvent function", "Wait TRUE: the wait that follows may be for several objects, or a delay") {
        PVOID objects[2] = { &gate, &answer };
        LARGE_INTEGER soon = after_us(1000), none = { .QuadPart = 0 };
        KeInitializeEvent(&answer, NotificationEvent, TRUE);
        KeSetEvent(&gate, 0, TRUE);
        EXPECT_STATUS(KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, &soon, NULL), STATUS_SUCCESS);
        EXPECT_PASSIVE();
        KeSetEvent(&gate, 0, TRUE);
        EXPECT_STATUS(KeDelayExecutionThread(KernelMode, FALSE, &soon), STATUS_SUCCESS);
        EXPECT_PASSIVE();
        KeSetEvent(&gate, 0, TRUE);
        EXPECT_STATUS(KeDelayExecutionThread(KernelMode, FALSE, &none), STATUS_SUCCESS);
        EXPECT_PASSIVE();
    }
    RULE("KeSetEvent function", "Wait TRUE: the event is set and the wait begins in one operation") {
        int missed = 0;
        KAFFINITY all = KeSetSystemAffinityThreadEx(1);
        KeInitializeEvent(&gate, SynchronizationEvent, FALSE);
        KeInitializeEvent(&answer, NotificationEvent, FALSE);
        if (KeQueryActiveProcessorCount(NULL) > 1) {
            /* On another processor the answer may come before the wait, on Windows as well. */
            KeRevertToUserAffinityThreadEx(all);
            EXPECT(TRUE);
            continue;
        }
        thread = start_thread(pulse_back, NULL);
        for (int i = 0; i < 50; i++) {
            KeSetEvent(&gate, 0, TRUE);
            if (KeWaitForSingleObject(&answer, Executive, KernelMode, FALSE, &second) != STATUS_SUCCESS)
                missed++;
        }
        join_thread(thread);
        KeRevertToUserAffinityThreadEx(all);
        EXPECT_EQ(missed, 0);
    }
    RULE("KeReleaseMutex function", "Wait TRUE: a wait follows at once, and restores the level") {
        KeInitializeMutex(&mutex, 0);
        KeInitializeSemaphore(&semaphore, 0, 1);
        EXPECT_STATUS(look(&mutex), STATUS_SUCCESS);
        EXPECT_EQ(KeReleaseMutex(&mutex, TRUE), 0);
        EXPECT_STATUS(KeWaitForSingleObject(&mutex, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_PASSIVE();
        KeReleaseMutex(&mutex, FALSE);
        EXPECT_EQ(KeReleaseSemaphore(&semaphore, 0, 1, TRUE), 0);
        EXPECT_STATUS(KeWaitForSingleObject(&semaphore, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_PASSIVE();
    }
    RULE("KeSetEvent function", "Increment is added to the priority of a thread whose wait is satisfied") {
        KeInitializeEvent(&gate, SynchronizationEvent, FALSE);
        thread = start_waiter(&waiter, &gate);
        KeSetEvent(&gate, 4, FALSE);
        join_thread(thread);
        EXPECT_EQ(waiter.priority, 8 + 4);
        thread = start_waiter(&waiter, &gate);
        KeSetEvent(&gate, IO_NO_INCREMENT, FALSE);
        join_thread(thread);
        EXPECT_EQ(waiter.priority, 8);
    }
    RULE("Scheduling Priorities", "a priority that was raised wears off while the thread runs, down to its own") {
        KeInitializeEvent(&gate, SynchronizationEvent, FALSE);
        thread = start_thread(runs_on, NULL);
        sleep_us(20000);
        KeSetEvent(&gate, 5, FALSE);
        join_thread(thread);
        EXPECT_EQ(raised_to, 8 + 5);
        EXPECT_EQ(worn_down_to, 8);
    }
    RULE("KeReleaseSemaphore function", "Increment raises within the variable priorities, not into those of real time") {
        KeInitializeSemaphore(&semaphore, 0, 1);
        thread = start_waiter(&waiter, &semaphore);
        KeReleaseSemaphore(&semaphore, 15, 1, FALSE);
        join_thread(thread);
        EXPECT_EQ(waiter.priority, LOW_REALTIME_PRIORITY - 1);
    }
    RULE("KePulseEvent function", "returns the previous state; nobody waits: nobody is let go later") {
        KeInitializeEvent(&gate, SynchronizationEvent, TRUE);
        EXPECT(KePulseEvent(&gate, 0, FALSE) != 0);
        EXPECT_EQ(KeReadStateEvent(&gate), 0);
        EXPECT_EQ(KePulseEvent(&gate, 0, FALSE), 0);
        EXPECT_STATUS(look(&gate), STATUS_TIMEOUT);
    }
    RULE("KeReleaseSemaphore function", "above its limit it raises STATUS_SEMAPHORE_LIMIT_EXCEEDED and changes nothing") {
        KeInitializeSemaphore(&semaphore, 1, 2);
        EXPECT_STATUS(guarded(release_semaphore, NULL), 0xC0000047);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), 1);
        EXPECT_PASSIVE();
    }
    RULE("KeReleaseMutex function", "by a thread that does not own it: raises STATUS_MUTANT_NOT_OWNED") {
        KeInitializeMutex(&mutex, 0);
        EXPECT_STATUS(guarded(release_mutex, NULL), STATUS_MUTANT_NOT_OWNED);
        EXPECT_EQ(KeReadStateMutex(&mutex), 1);
        EXPECT_PASSIVE();
    }
    RULE("KeReleaseMutex function", "releases of a mutex that was acquired twice return what is left, below zero") {
        look(&mutex);
        look(&mutex);
        EXPECT_EQ(KeReadStateMutex(&mutex), -1);
        EXPECT_EQ(KeReleaseMutex(&mutex, FALSE), -1);
        EXPECT_EQ(KeReleaseMutex(&mutex, FALSE), 0);
        EXPECT(!KeAreApcsDisabled());
    }
}

static void check_mutants(void)
{
    PKTHREAD thread;
    PVOID objects[2];

    RULE("KeInitializeMutant function", "free, or the caller's; its owner acquires it again") {
        KeInitializeMutant(&mutant, TRUE);
        EXPECT_EQ(KeReadStateMutant(&mutant), 0);
        EXPECT_STATUS(look(&mutant), STATUS_SUCCESS);
        EXPECT_EQ(KeReleaseMutant(&mutant, 0, FALSE, FALSE), -1);
        EXPECT_EQ(KeReleaseMutant(&mutant, 0, FALSE, FALSE), 0);
        EXPECT_EQ(KeReadStateMutant(&mutant), 1);
        KeInitializeMutant(&mutant, FALSE);
        EXPECT_EQ(KeReadStateMutant(&mutant), 1);
    }
    RULE("KeInitializeMutant function", "its owner is in no critical region") {
        EXPECT_STATUS(look(&mutant), STATUS_SUCCESS);
        EXPECT(!KeAreApcsDisabled());
        KeReleaseMutant(&mutant, 0, FALSE, FALSE);
    }
    RULE("KeReleaseMutant function", "by a thread that does not own it: raises STATUS_MUTANT_NOT_OWNED") {
        EXPECT_STATUS(guarded(release_mutant, NULL), STATUS_MUTANT_NOT_OWNED);
    }
    RULE("KeWaitForSingleObject function", "STATUS_ABANDONED_WAIT_0 where the owner ended without releasing the mutant; once") {
        join_thread(start_thread(take_and_end, &mutant));
        EXPECT_EQ(KeReadStateMutant(&mutant), 1);
        EXPECT_STATUS(look(&mutant), STATUS_ABANDONED_WAIT_0);
        KeReleaseMutant(&mutant, 0, FALSE, FALSE);
        EXPECT_STATUS(look(&mutant), STATUS_SUCCESS);
        KeReleaseMutant(&mutant, 0, FALSE, FALSE);
    }
    RULE("KeWaitForMultipleObjects function", "WaitAny: STATUS_ABANDONED_WAIT_0 and the index of the abandoned mutant") {
        KeInitializeEvent(&gate, NotificationEvent, FALSE);
        objects[0] = &gate;
        objects[1] = &mutant;
        join_thread(start_thread(take_and_end, &mutant));
        EXPECT_STATUS(KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL),
                      STATUS_ABANDONED_WAIT_0 + 1);
        KeReleaseMutant(&mutant, 0, FALSE, FALSE);
    }
    RULE("KeWaitForMultipleObjects function", "WaitAll: STATUS_ABANDONED where one of them is an abandoned mutant") {
        KeSetEvent(&gate, 0, FALSE);
        join_thread(start_thread(take_and_end, &mutant));
        EXPECT_STATUS(KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, NULL, NULL), STATUS_ABANDONED);
        KeReleaseMutant(&mutant, 0, FALSE, FALSE);
    }
    RULE("KeReleaseMutant function", "Abandoned TRUE: it is free whoever owns it, and the next owner is told") {
        struct waiter waiter;
        look(&mutant);
        thread = start_waiter(&waiter, &mutant);
        join_thread(start_thread(abandon, NULL));
        join_thread(thread);
        EXPECT_STATUS(waiter.status, STATUS_ABANDONED_WAIT_0);
    }
}

static KQUEUE queue;
static volatile LONG at_work, most_at_work, entries_done;
static BOOLEAN work_waits;

static VOID NTAPI take_entries(PVOID unused)
{
    (void)unused;
    for (;;) {
        PLIST_ENTRY entry = KeRemoveQueue(&queue, KernelMode, NULL);
        LONG now_at_work;
        if ((ULONG_PTR)entry == STATUS_ABANDONED)
            return;
        now_at_work = InterlockedIncrement(&at_work);
        while (now_at_work > most_at_work)
            InterlockedExchange(&most_at_work, now_at_work);
        if (work_waits)
            KeWaitForSingleObject(&gate, Executive, KernelMode, FALSE, NULL);
        else
            KeStallExecutionProcessor(300);
        InterlockedDecrement(&at_work);
        InterlockedIncrement(&entries_done);
    }
}

static int becomes(volatile LONG *value, LONG wanted)
{
    for (int i = 0; i < 5000 && *value != wanted; i++)
        sleep_us(1000);
    return *value == wanted;
}

static void check_queues(void)
{
    static LIST_ENTRY entries[16];
    PLIST_ENTRY several[4];
    PKTHREAD threads[3];

    RULE("KeInitializeQueue function", "empty; Count 0 means as many threads as there are processors") {
        KeInitializeQueue(&queue, 0);
        EXPECT_EQ(queue.MaximumCount, KeQueryActiveProcessorCount(NULL));
        KeInitializeQueue(&queue, 1);
        EXPECT_EQ(queue.MaximumCount, 1);
        EXPECT_EQ(KeReadStateQueue(&queue), 0);
    }
    RULE("KeRemoveQueue function", "STATUS_TIMEOUT in the place of an entry where there is none in time") {
        LARGE_INTEGER soon = after_us(2000);
        EXPECT_EQ(KeRemoveQueue(&queue, KernelMode, &now), STATUS_TIMEOUT);
        EXPECT_EQ(KeRemoveQueue(&queue, KernelMode, &soon), STATUS_TIMEOUT);
    }
    RULE("KeInsertQueue function", "at the end; returns how many entries there were") {
        EXPECT_EQ(KeInsertQueue(&queue, &entries[0]), 0);
        EXPECT_EQ(KeInsertQueue(&queue, &entries[1]), 1);
        EXPECT_EQ(KeReadStateQueue(&queue), 2);
    }
    RULE("KeInsertHeadQueue function", "at the beginning; KeRemoveQueue takes the first") {
        EXPECT_EQ(KeInsertHeadQueue(&queue, &entries[2]), 2);
        EXPECT_EQ(KeRemoveQueue(&queue, KernelMode, NULL), &entries[2]);
        EXPECT_EQ(KeRemoveQueue(&queue, KernelMode, NULL), &entries[0]);
        EXPECT_EQ(KeRemoveQueue(&queue, KernelMode, &now), &entries[1]);
    }
    RULE("KeRemoveQueueEx function", "as many entries as there are and fit") {
        for (int i = 0; i < 5; i++)
            KeInsertQueue(&queue, &entries[i]);
        EXPECT_EQ(KeRemoveQueueEx(&queue, KernelMode, FALSE, NULL, several, 4), 4);
        EXPECT(several[0] == &entries[0] && several[3] == &entries[3]);
        EXPECT_EQ(KeRemoveQueueEx(&queue, KernelMode, FALSE, NULL, several, 4), 1);
        EXPECT_EQ(KeRemoveQueueEx(&queue, KernelMode, FALSE, &now, several, 4), STATUS_TIMEOUT);
    }
    RULE("KeInsertQueue function", "at DISPATCH_LEVEL too") {
        KIRQL old;
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        KeInsertQueue(&queue, &entries[0]);
        KeLowerIrql(old);
        EXPECT_EQ(KeRundownQueue(&queue), &entries[0]);
    }
    RULE("KeInitializeQueue function", "no more threads than Count are at work at once") {
        KeInitializeQueue(&queue, 1);
        at_work = most_at_work = entries_done = 0;
        work_waits = FALSE;
        for (int i = 0; i < 3; i++)
            threads[i] = start_thread(take_entries, NULL);
        sleep_us(20000);
        for (int i = 0; i < 16; i++)
            KeInsertQueue(&queue, &entries[i]);
        EXPECT(becomes(&entries_done, 16));
        EXPECT_EQ(most_at_work, 1);
    }
    RULE("KeRemoveQueue function", "a thread that waits in its work lets another begin") {
        work_waits = TRUE;
        entries_done = 0;
        KeInitializeEvent(&gate, NotificationEvent, FALSE);
        for (int i = 0; i < 3; i++)
            KeInsertQueue(&queue, &entries[i]);
        EXPECT(becomes(&at_work, 3));
        KeSetEvent(&gate, 0, FALSE);
        EXPECT(becomes(&entries_done, 3));
    }
    RULE("KeRundownQueue function", "NULL where there are no entries; threads that wait are let go") {
        sleep_us(20000);
        EXPECT_EQ(KeRundownQueue(&queue), NULL);
        for (int i = 0; i < 3; i++)
            join_thread(threads[i]);
        EXPECT_EQ(KeReadStateQueue(&queue), 0);
    }
    RULE("KeRundownQueue function", "the first of the entries that are left, linked with each other") {
        KeInitializeQueue(&queue, 1);
        KeInsertQueue(&queue, &entries[0]);
        KeInsertQueue(&queue, &entries[1]);
        EXPECT_EQ(KeRundownQueue(&queue), &entries[0]);
        EXPECT_EQ(entries[0].Flink, &entries[1]);
        EXPECT_EQ(entries[1].Flink, &entries[0]);
    }
}

static PDEVICE_OBJECT device;
static PIRP volatile pending;
static volatile LONG priority_after;

static NTSTATUS NTAPI pend(PDEVICE_OBJECT object, PIRP irp)
{
    (void)object;
    IoMarkIrpPending(irp);
    pending = irp;
    return STATUS_PENDING;
}

static VOID NTAPI ask(PVOID unused)
{
    IO_STATUS_BLOCK status;
    KEVENT done;
    PIRP irp;
    (void)unused;
    KeInitializeEvent(&done, NotificationEvent, FALSE);
    irp = IoBuildDeviceIoControlRequest(CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS), device, NULL, 0, NULL, 0,
                                        FALSE, &done, &status);
    if (irp && IoCallDriver(device, irp) == STATUS_PENDING)
        KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
    priority_after = KeQueryPriorityThread(KeGetCurrentThread());
}

static void check_completion(PDRIVER_OBJECT driver)
{
    PKTHREAD thread;

    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = pend;
    if (!NT_SUCCESS(IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device)))
        return;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    RULE("IoCompleteRequest macro", "PriorityBoost raises the priority of the thread that asked and waits") {
        thread = start_thread(ask, NULL);
        for (int i = 0; i < 5000 && !pending; i++)
            sleep_us(1000);
        sleep_us(20000);
        EXPECT(pending != NULL);
        pending->IoStatus.Status = STATUS_SUCCESS;
        pending->IoStatus.Information = 0;
        IoCompleteRequest(pending, IO_SERIAL_INCREMENT);
        join_thread(thread);
        EXPECT_EQ(priority_after, 8 + IO_SERIAL_INCREMENT);
    }
    IoDeleteDevice(device);
}

static volatile ULONG seen_in_dpc, seen_after;

static void check_affinity(void)
{
    ULONG last = KeQueryActiveProcessorCount(NULL) - 1;
    KAFFINITY before;
    KIRQL old;

    RULE("KeSetSystemAffinityThreadEx function", "at DISPATCH_LEVEL the change is deferred until the level falls") {
        before = KeSetSystemAffinityThreadEx(1);
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        KeSetSystemAffinityThreadEx((KAFFINITY)1 << last);
        seen_in_dpc = KeGetCurrentProcessorNumber();
        KeLowerIrql(old);
        seen_after = KeGetCurrentProcessorNumber();
        KeRevertToUserAffinityThreadEx(before);
        EXPECT_EQ(seen_in_dpc, 0);
        EXPECT_EQ(seen_after, last);
        EXPECT_PASSIVE();
    }
    RULE("KeRevertToUserAffinityThreadEx function", "at DISPATCH_LEVEL too") {
        before = KeSetSystemAffinityThreadEx((KAFFINITY)1 << last);
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        KeRevertToUserAffinityThreadEx(before);
        KeLowerIrql(old);
        EXPECT_PASSIVE();
        EXPECT_EQ(KeSetSystemAffinityThreadEx(1), 0);
        KeRevertToUserAffinityThreadEx(0);
    }
    RULE("KeSetSystemAffinityThreadEx function", "no effect where a bit stands for no processor") {
        before = KeSetSystemAffinityThreadEx(1);
        KeSetSystemAffinityThreadEx((KAFFINITY)1 << 40);
        EXPECT_EQ(KeGetCurrentProcessorNumber(), 0);
        KeSetSystemAffinityThreadEx((KAFFINITY)1 << 40 | (KAFFINITY)1 << last);
        EXPECT_EQ(KeGetCurrentProcessorNumber(), 0);
        KeRevertToUserAffinityThreadEx(before);
    }
}

static void check_objects(void)
{
    LARGE_INTEGER soon = after_us(3000);
    PVOID objects[2];

    RULE("KeWaitForSingleObject function", "a process object is signaled when the process has ended, not before") {
        EXPECT_STATUS(look(PsInitialSystemProcess), STATUS_TIMEOUT);
        EXPECT_STATUS(KeWaitForSingleObject(PsGetCurrentProcess(), Executive, KernelMode, FALSE, &soon), STATUS_TIMEOUT);
        KeInitializeEvent(&gate, NotificationEvent, TRUE);
        objects[0] = PsInitialSystemProcess;
        objects[1] = &gate;
        EXPECT_STATUS(KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL), STATUS_WAIT_1);
    }
    RULE("KeWaitForSingleObject function", "the calling thread's own object is not signaled") {
        EXPECT_STATUS(look(KeGetCurrentThread()), STATUS_TIMEOUT);
    }
}

static void check_places(void)
{
    const volatile KUSER_SHARED_DATA *shared = (const volatile KUSER_SHARED_DATA *)0xFFFFF78000000000;
    RTL_OSVERSIONINFOW version = { .dwOSVersionInfoSize = sizeof(version) };

    RULE("KUSER_SHARED_DATA structure", "the system's version, product, root and architecture") {
        RtlGetVersion(&version);
        EXPECT_EQ(shared->NtMajorVersion, version.dwMajorVersion);
        EXPECT_EQ(shared->NtMinorVersion, version.dwMinorVersion);
        EXPECT_EQ(shared->NtProductType, NtProductWinNt);
        EXPECT(shared->ProductTypeIsValid);
        EXPECT(shared->NtSystemRoot[1] == ':' && shared->NtSystemRoot[2] == '\\');
        EXPECT_EQ(shared->ImageNumberLow, 0x8664);
        EXPECT(shared->LargePageMinimum >= PAGE_SIZE && shared->NumberOfPhysicalPages > 256);
    }
    RULE("KUSER_SHARED_DATA structure", "ProcessorFeatures tells what ExIsProcessorFeaturePresent does") {
        for (ULONG feature = 0; feature < PROCESSOR_FEATURE_MAX; feature++)
            EXPECT_EQ(!!shared->ProcessorFeatures[feature], !!ExIsProcessorFeaturePresent(feature));
    }
    RULE("KUSER_SHARED_DATA structure", "TickCountMultiplier makes milliseconds of ticks") {
        ULONGLONG ms = shared->TickCountQuad * shared->TickCountMultiplier >> 24;
        ULONGLONG by_time = KeQueryInterruptTime() / 10000;
        EXPECT(by_time + 40 >= ms && by_time < ms + 2000);
    }
    RULE("KPCR structure", "Self and CurrentPrcb lead to themselves; the number is the processor's, the thread the current one") {
        ULONG_PTR self, prcb;
        KIRQL old;
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        self = __readgsqword(0x18);
        prcb = __readgsqword(0x20);
        EXPECT_EQ(*(ULONG_PTR *)(self + 0x18), self);
        EXPECT_EQ(prcb, self + 0x180);
        EXPECT_EQ(__readgsdword(0x1A4), KeGetCurrentProcessorNumberEx(NULL));
        EXPECT_EQ(__readgsqword(0x188), PsGetCurrentThread());
        EXPECT(__readgsqword(0x198) != 0 && __readgsqword(0x38) != 0);
        KeLowerIrql(old);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)path;
    check_completion(driver);
    check_signals();
    check_mutants();
    check_queues();
    check_affinity();
    check_objects();
    check_places();
}

SUITE("ke_more")
