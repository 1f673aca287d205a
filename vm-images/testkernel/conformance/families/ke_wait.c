/* Dispatcher objects and waits: events, semaphores, mutexes, timers, threads, and waiting for several of them. */
#include <check.h>

static LARGE_INTEGER zero;
static LARGE_INTEGER soon;

static NTSTATUS wait_now(PVOID object)
{
    return KeWaitForSingleObject(object, Executive, KernelMode, FALSE, &zero);
}

static void events(void)
{
    KEVENT event;

    RULE("KeInitializeEvent function", "the event begins in the state that is asked for") {
        KeInitializeEvent(&event, NotificationEvent, TRUE);
        EXPECT(KeReadStateEvent(&event) != 0);
        KeInitializeEvent(&event, NotificationEvent, FALSE);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
    }
    RULE("KeSetEvent function", "returns the previous state: nonzero where it was signaled") {
        EXPECT_EQ(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 0);
        EXPECT(KeSetEvent(&event, IO_NO_INCREMENT, FALSE) != 0);
    }
    RULE("KeResetEvent function", "returns the previous state and leaves the event not signaled") {
        EXPECT(KeResetEvent(&event) != 0);
        EXPECT_EQ(KeResetEvent(&event), 0);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
    }
    RULE("KeClearEvent function", "leaves the event not signaled") {
        KeSetEvent(&event, 0, FALSE);
        KeClearEvent(&event);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
    }
    RULE("KeWaitForSingleObject function", "a zero timeout returns at once: STATUS_TIMEOUT where not signaled") {
        EXPECT_STATUS(wait_now(&event), STATUS_TIMEOUT);
    }
    RULE("KeWaitForSingleObject function", "a notification event stays signaled when it satisfies a wait") {
        KeSetEvent(&event, 0, FALSE);
        EXPECT_STATUS(wait_now(&event), STATUS_SUCCESS);
        EXPECT_STATUS(wait_now(&event), STATUS_SUCCESS);
        EXPECT(KeReadStateEvent(&event) != 0);
    }
    RULE("Event Objects", "a synchronization event is reset by the wait that it satisfies") {
        KeInitializeEvent(&event, SynchronizationEvent, TRUE);
        EXPECT_STATUS(wait_now(&event), STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateEvent(&event), 0);
        EXPECT_STATUS(wait_now(&event), STATUS_TIMEOUT);
    }
    RULE("Event Objects", "setting a synchronization event twice satisfies one wait") {
        KeSetEvent(&event, 0, FALSE);
        KeSetEvent(&event, 0, FALSE);
        EXPECT_STATUS(wait_now(&event), STATUS_SUCCESS);
        EXPECT_STATUS(wait_now(&event), STATUS_TIMEOUT);
    }
    RULE("KeSetEvent function", "may be called at DISPATCH_LEVEL where Wait is FALSE") {
        KIRQL irql;
        KeInitializeEvent(&event, NotificationEvent, FALSE);
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        KeSetEvent(&event, 0, FALSE);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(irql);
        EXPECT_STATUS(wait_now(&event), STATUS_SUCCESS);
    }
    RULE("KeWaitForSingleObject function", "with a zero timeout it may be called at DISPATCH_LEVEL") {
        KIRQL irql;
        NTSTATUS first, second;
        KeInitializeEvent(&event, SynchronizationEvent, TRUE);
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        first = wait_now(&event);
        second = wait_now(&event);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(irql);
        EXPECT_STATUS(first, STATUS_SUCCESS);
        EXPECT_STATUS(second, STATUS_TIMEOUT);
    }
}

static void timeouts(void)
{
    KEVENT event;
    ULONGLONG before, passed;
    LARGE_INTEGER time;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    RULE("KeWaitForSingleObject function", "a negative timeout is relative and waits at least so long") {
        time = after_us(3000);
        before = now_100ns();
        EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &time), STATUS_TIMEOUT);
        passed = now_100ns() - before;
        /* The interrupt time moves with the clock tick, which may fall on either side. */
        EXPECT(passed + KeQueryTimeIncrement() >= 30000);
    }
    RULE("KeWaitForSingleObject function", "a positive timeout is an absolute system time") {
        KeQuerySystemTime(&time);
        time.QuadPart += 30000;
        before = now_100ns();
        EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &time), STATUS_TIMEOUT);
        EXPECT(now_100ns() - before + KeQueryTimeIncrement() >= 20000);
    }
    RULE("KeWaitForSingleObject function", "an absolute time in the past expires at once") {
        KeQuerySystemTime(&time);
        time.QuadPart -= 10000000;
        EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, &time), STATUS_TIMEOUT);
    }
    RULE("KeDelayExecutionThread function", "a relative interval delays at least so long and returns STATUS_SUCCESS") {
        time = after_us(2000);
        before = now_100ns();
        EXPECT_STATUS(KeDelayExecutionThread(KernelMode, FALSE, &time), STATUS_SUCCESS);
        EXPECT(now_100ns() - before + KeQueryTimeIncrement() >= 20000);
        EXPECT_PASSIVE();
    }
    RULE("KeDelayExecutionThread function", "a zero interval returns STATUS_SUCCESS") {
        time.QuadPart = 0;
        EXPECT_STATUS(KeDelayExecutionThread(KernelMode, FALSE, &time), STATUS_SUCCESS);
    }
    RULE("KeDelayExecutionThread function", "an absolute time delays until then") {
        KeQuerySystemTime(&time);
        time.QuadPart += 20000;
        EXPECT_STATUS(KeDelayExecutionThread(KernelMode, FALSE, &time), STATUS_SUCCESS);
        LARGE_INTEGER now;
        KeQuerySystemTime(&now);
        EXPECT(now.QuadPart >= time.QuadPart);
    }
}

static void semaphores(void)
{
    KSEMAPHORE semaphore;

    RULE("KeInitializeSemaphore function", "begins with its count; the state is the count") {
        KeInitializeSemaphore(&semaphore, 2, 3);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), 2);
    }
    RULE("Semaphore Objects", "each satisfied wait takes one from the count; at zero it is not signaled") {
        EXPECT_STATUS(wait_now(&semaphore), STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), 1);
        EXPECT_STATUS(wait_now(&semaphore), STATUS_SUCCESS);
        EXPECT_STATUS(wait_now(&semaphore), STATUS_TIMEOUT);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), 0);
    }
    RULE("KeReleaseSemaphore function", "returns the previous count and adds the adjustment") {
        EXPECT_EQ(KeReleaseSemaphore(&semaphore, 0, 2, FALSE), 0);
        EXPECT_EQ(KeReleaseSemaphore(&semaphore, 0, 1, FALSE), 2);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), 3);
    }
}

static struct {
    KMUTEX mutex;
    KEVENT held;
    KEVENT go;
    NTSTATUS status;
} other;

static VOID NTAPI hold_mutex(PVOID context)
{
    KeWaitForSingleObject(&other.mutex, Executive, KernelMode, FALSE, NULL);
    KeSetEvent(&other.held, 0, FALSE);
    KeWaitForSingleObject(&other.go, Executive, KernelMode, FALSE, NULL);
    KeReleaseMutex(&other.mutex, FALSE);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void mutexes(void)
{
    KMUTEX mutex;
    PKTHREAD thread;

    RULE("KeInitializeMutex function", "begins signaled: its state is 1") {
        KeInitializeMutex(&mutex, 0);
        EXPECT_EQ(KeReadStateMutex(&mutex), 1);
    }
    RULE("Mutex Objects", "its owner may acquire it again, and owns it until as many releases") {
        EXPECT_STATUS(wait_now(&mutex), STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateMutex(&mutex), 0);
        EXPECT_STATUS(wait_now(&mutex), STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateMutex(&mutex), -1);
        EXPECT(KeReleaseMutex(&mutex, FALSE) != 0);
        EXPECT_EQ(KeReadStateMutex(&mutex), 0);
    }
    RULE("KeReleaseMutex function", "the last release returns zero and signals it") {
        EXPECT_EQ(KeReleaseMutex(&mutex, FALSE), 0);
        EXPECT_EQ(KeReadStateMutex(&mutex), 1);
    }
    RULE("Mutex Objects", "a thread that holds a mutex is in a critical region until it releases it") {
        EXPECT(!KeAreApcsDisabled());
        wait_now(&mutex);
        EXPECT(KeAreApcsDisabled());
        KeReleaseMutex(&mutex, FALSE);
        EXPECT(!KeAreApcsDisabled());
    }
    RULE("Mutex Objects", "another thread waits until the owner releases it") {
        KeInitializeMutex(&other.mutex, 0);
        KeInitializeEvent(&other.held, NotificationEvent, FALSE);
        KeInitializeEvent(&other.go, NotificationEvent, FALSE);
        thread = start_thread(hold_mutex, NULL);
        EXPECT(thread != NULL);
        KeWaitForSingleObject(&other.held, Executive, KernelMode, FALSE, NULL);
        EXPECT_STATUS(wait_now(&other.mutex), STATUS_TIMEOUT);
        KeSetEvent(&other.go, 0, FALSE);
        EXPECT_STATUS(KeWaitForSingleObject(&other.mutex, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        KeReleaseMutex(&other.mutex, FALSE);
        join_thread(thread);
    }
}

static VOID NTAPI end_later(PVOID context)
{
    KeWaitForSingleObject(context, Executive, KernelMode, FALSE, NULL);
    PsTerminateSystemThread(STATUS_CANCELLED);
}

static VOID NTAPI return_at_once(PVOID context)
{
    *(volatile LONG *)context = 1;
}

static void threads(void)
{
    KEVENT go;
    PKTHREAD thread;
    volatile LONG ran = 0;

    KeInitializeEvent(&go, NotificationEvent, FALSE);
    RULE("KeWaitForSingleObject function", "a thread object is signaled when the thread has ended, and stays so") {
        thread = start_thread(end_later, &go);
        EXPECT(thread != NULL);
        EXPECT_STATUS(wait_now(thread), STATUS_TIMEOUT);
        KeSetEvent(&go, 0, FALSE);
        EXPECT_STATUS(KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(wait_now(thread), STATUS_SUCCESS);
        ObDereferenceObject(thread);
    }
    RULE("PsCreateSystemThread function", "a start routine that returns ends its thread as well") {
        thread = start_thread(return_at_once, (PVOID)&ran);
        EXPECT_STATUS(KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_EQ(ran, 1);
        ObDereferenceObject(thread);
    }
}

static void timers(void)
{
    KTIMER timer;
    ULONGLONG before;

    RULE("KeInitializeTimerEx function", "a timer begins not signaled and not queued") {
        KeInitializeTimer(&timer);
        EXPECT(!KeReadStateTimer(&timer));
        EXPECT(!KeCancelTimer(&timer));
    }
    RULE("KeSetTimer function", "returns whether the timer was in the queue already") {
        EXPECT(!KeSetTimer(&timer, after_us(10000000), NULL));
        EXPECT(KeSetTimer(&timer, after_us(10000000), NULL));
    }
    RULE("KeCancelTimer function", "returns whether the timer was in the queue; a cancelled one is not signaled") {
        EXPECT(KeCancelTimer(&timer));
        EXPECT(!KeCancelTimer(&timer));
        EXPECT(!KeReadStateTimer(&timer));
    }
    RULE("Timer Objects", "a notification timer stays signaled after it has expired") {
        before = now_100ns();
        KeSetTimer(&timer, after_us(2000), NULL);
        EXPECT_STATUS(KeWaitForSingleObject(&timer, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT(now_100ns() - before + KeQueryTimeIncrement() >= 20000);
        EXPECT_STATUS(wait_now(&timer), STATUS_SUCCESS);
        EXPECT(KeReadStateTimer(&timer));
    }
    RULE("KeSetTimer function", "sets the timer to not signaled") {
        KeSetTimer(&timer, after_us(10000000), NULL);
        EXPECT(!KeReadStateTimer(&timer));
        KeCancelTimer(&timer);
    }
    RULE("Timer Objects", "a synchronization timer is reset by the wait that it satisfies") {
        KeInitializeTimerEx(&timer, SynchronizationTimer);
        KeSetTimer(&timer, after_us(1000), NULL);
        EXPECT_STATUS(KeWaitForSingleObject(&timer, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(wait_now(&timer), STATUS_TIMEOUT);
    }
    RULE("KeSetTimerEx function", "a period makes it expire again and again until it is cancelled") {
        KeSetTimerEx(&timer, after_us(1000), 1, NULL);
        for (int i = 0; i < 3; i++)
            EXPECT_STATUS(KeWaitForSingleObject(&timer, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT(KeCancelTimer(&timer));
    }
    RULE("KeSetTimer function", "an absolute time in the past expires at once") {
        LARGE_INTEGER past;
        KeQuerySystemTime(&past);
        past.QuadPart -= 1000000;
        KeInitializeTimer(&timer);
        KeSetTimer(&timer, past, NULL);
        EXPECT_STATUS(KeWaitForSingleObject(&timer, Executive, KernelMode, FALSE, &soon), STATUS_SUCCESS);
    }
    RULE("KeSetCoalescableTimer function", "expires after its due time, with a tolerance") {
        KeInitializeTimer(&timer);
        EXPECT(!KeSetCoalescableTimer(&timer, after_us(1000), 0, 1, NULL));
        EXPECT_STATUS(KeWaitForSingleObject(&timer, Executive, KernelMode, FALSE, &soon), STATUS_SUCCESS);
    }
}

static void several(void)
{
    KEVENT a, b, c, d;
    PVOID objects[MAXIMUM_WAIT_OBJECTS];
    KWAIT_BLOCK blocks[MAXIMUM_WAIT_OBJECTS];

    KeInitializeEvent(&a, SynchronizationEvent, FALSE);
    KeInitializeEvent(&b, SynchronizationEvent, TRUE);
    KeInitializeEvent(&c, NotificationEvent, FALSE);
    KeInitializeEvent(&d, NotificationEvent, FALSE);
    objects[0] = &a;
    objects[1] = &b;
    objects[2] = &c;
    objects[3] = &d;

    RULE("KeWaitForMultipleObjects function", "WaitAny returns the index of the object that satisfied the wait") {
        EXPECT_STATUS(KeWaitForMultipleObjects(3, objects, WaitAny, Executive, KernelMode, FALSE, &zero, NULL),
                      STATUS_WAIT_1);
        EXPECT_EQ(KeReadStateEvent(&b), 0);
    }
    RULE("KeWaitForMultipleObjects function", "WaitAny takes the first of several and leaves the others alone") {
        KeSetEvent(&a, 0, FALSE);
        KeSetEvent(&b, 0, FALSE);
        EXPECT_STATUS(KeWaitForMultipleObjects(3, objects, WaitAny, Executive, KernelMode, FALSE, &zero, NULL),
                      STATUS_WAIT_0);
        EXPECT(KeReadStateEvent(&b) != 0);
        EXPECT_EQ(KeReadStateEvent(&a), 0);
    }
    RULE("KeWaitForMultipleObjects function", "WaitAll changes no object unless all are signaled") {
        EXPECT_STATUS(KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, &zero, NULL),
                      STATUS_TIMEOUT);
        EXPECT(KeReadStateEvent(&b) != 0);
    }
    RULE("KeWaitForMultipleObjects function", "WaitAll returns STATUS_SUCCESS and takes every object") {
        KeSetEvent(&a, 0, FALSE);
        EXPECT_STATUS(KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, &zero, NULL),
                      STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateEvent(&a), 0);
        EXPECT_EQ(KeReadStateEvent(&b), 0);
    }
    RULE("KeWaitForMultipleObjects function", "a relative timeout ends it with STATUS_TIMEOUT") {
        LARGE_INTEGER time = after_us(2000);
        EXPECT_STATUS(KeWaitForMultipleObjects(3, objects, WaitAny, Executive, KernelMode, FALSE, &time, NULL),
                      STATUS_TIMEOUT);
    }
    RULE("KeWaitForMultipleObjects function", "more than THREAD_WAIT_OBJECTS with wait blocks of the caller's") {
        KeSetEvent(&d, 0, FALSE);
        EXPECT_STATUS(KeWaitForMultipleObjects(4, objects, WaitAny, Executive, KernelMode, FALSE, &zero, blocks),
                      STATUS_WAIT_3);
        KeClearEvent(&d);
    }
    RULE("KeWaitForMultipleObjects function", "MAXIMUM_WAIT_OBJECTS at once") {
        static KEVENT many[MAXIMUM_WAIT_OBJECTS];
        for (int i = 0; i < MAXIMUM_WAIT_OBJECTS; i++) {
            KeInitializeEvent(&many[i], SynchronizationEvent, i != 63);
            objects[i] = &many[i];
        }
        EXPECT_STATUS(KeWaitForMultipleObjects(MAXIMUM_WAIT_OBJECTS, objects, WaitAll, Executive, KernelMode, FALSE,
                                               &zero, blocks), STATUS_TIMEOUT);
        KeSetEvent(&many[63], 0, FALSE);
        EXPECT_STATUS(KeWaitForMultipleObjects(MAXIMUM_WAIT_OBJECTS, objects, WaitAll, Executive, KernelMode, FALSE,
                                               &zero, blocks), STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateEvent(&many[0]), 0);
        EXPECT_EQ(KeReadStateEvent(&many[63]), 0);
    }
    RULE("KeWaitForMultipleObjects function", "objects of different kinds wait together") {
        KTIMER timer;
        KSEMAPHORE semaphore;
        KeInitializeTimer(&timer);
        KeInitializeSemaphore(&semaphore, 1, 1);
        objects[0] = &timer;
        objects[1] = &semaphore;
        KeSetTimer(&timer, after_us(1000), NULL);
        EXPECT_STATUS(KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, &soon, NULL),
                      STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), 0);
        EXPECT(KeReadStateTimer(&timer));
    }
}

/* Several threads wait; each says which one it is when it goes on. */
static struct {
    KEVENT event;
    KEVENT started;
    volatile LONG woken;
} crowd;

static VOID NTAPI wait_in_crowd(PVOID context)
{
    InterlockedIncrement((volatile LONG *)context);
    KeWaitForSingleObject(&crowd.event, Executive, KernelMode, FALSE, NULL);
    InterlockedIncrement(&crowd.woken);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void crowds(void)
{
    PKTHREAD threads[4];
    volatile LONG begun;

    RULE("Event Objects", "a notification event wakes every thread that waits for it") {
        begun = 0;
        crowd.woken = 0;
        KeInitializeEvent(&crowd.event, NotificationEvent, FALSE);
        for (int i = 0; i < 4; i++)
            threads[i] = start_thread(wait_in_crowd, (PVOID)&begun);
        while (begun < 4)
            sleep_us(1000);
        sleep_us(5000);
        EXPECT_EQ(crowd.woken, 0);
        KeSetEvent(&crowd.event, 0, FALSE);
        for (int i = 0; i < 4; i++)
            join_thread(threads[i]);
        EXPECT_EQ(crowd.woken, 4);
    }
    RULE("Event Objects", "a synchronization event wakes one thread for each time it is set") {
        begun = 0;
        crowd.woken = 0;
        KeInitializeEvent(&crowd.event, SynchronizationEvent, FALSE);
        for (int i = 0; i < 4; i++)
            threads[i] = start_thread(wait_in_crowd, (PVOID)&begun);
        while (begun < 4)
            sleep_us(1000);
        sleep_us(5000);
        for (int i = 1; i <= 4; i++) {
            KeSetEvent(&crowd.event, 0, FALSE);
            for (int tries = 0; crowd.woken < i && tries < 1000; tries++)
                sleep_us(1000);
            sleep_us(2000);
            EXPECT_EQ(crowd.woken, i);
        }
        for (int i = 0; i < 4; i++)
            join_thread(threads[i]);
    }
    RULE("KePulseEvent function", "wakes those who wait and leaves the event not signaled") {
        begun = 0;
        crowd.woken = 0;
        KeInitializeEvent(&crowd.event, NotificationEvent, FALSE);
        for (int i = 0; i < 2; i++)
            threads[i] = start_thread(wait_in_crowd, (PVOID)&begun);
        while (begun < 2)
            sleep_us(1000);
        sleep_us(5000);
        EXPECT_EQ(KePulseEvent(&crowd.event, 0, FALSE), 0);
        for (int i = 0; i < 2; i++)
            join_thread(threads[i]);
        EXPECT_EQ(crowd.woken, 2);
        EXPECT_EQ(KeReadStateEvent(&crowd.event), 0);
    }
    RULE("KeReleaseSemaphore function", "wakes as many threads as the count allows") {
        static KSEMAPHORE semaphore;
        begun = 0;
        KeInitializeSemaphore(&semaphore, 0, 4);
        KeReleaseSemaphore(&semaphore, 0, 3, FALSE);
        for (int i = 0; i < 3; i++)
            EXPECT_STATUS(wait_now(&semaphore), STATUS_SUCCESS);
        EXPECT_STATUS(wait_now(&semaphore), STATUS_TIMEOUT);
    }
}

static struct {
    KEVENT first, second;
    volatile LONG done;
    NTSTATUS status;
} pair;

static VOID NTAPI wait_for_both(PVOID context)
{
    PVOID objects[2] = { &pair.first, &pair.second };
    pair.status = KeWaitForMultipleObjects(2, objects, WaitAll, Executive, KernelMode, FALSE, NULL, NULL);
    pair.done = 1;
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void all_of_them(void)
{
    PKTHREAD thread;

    RULE("KeWaitForMultipleObjects function", "a waiting WaitAll ends when the last object is signaled, not before") {
        KeInitializeEvent(&pair.first, SynchronizationEvent, FALSE);
        KeInitializeEvent(&pair.second, SynchronizationEvent, FALSE);
        pair.done = 0;
        thread = start_thread(wait_for_both, NULL);
        sleep_us(3000);
        KeSetEvent(&pair.first, 0, FALSE);
        sleep_us(5000);
        EXPECT_EQ(pair.done, 0);
        EXPECT(KeReadStateEvent(&pair.first) != 0);
        KeSetEvent(&pair.second, 0, FALSE);
        join_thread(thread);
        EXPECT_EQ(pair.done, 1);
        EXPECT_STATUS(pair.status, STATUS_SUCCESS);
        EXPECT_EQ(KeReadStateEvent(&pair.first), 0);
        EXPECT_EQ(KeReadStateEvent(&pair.second), 0);
    }
}

static void resolution(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"ExQueryTimerResolution");
    VOID(NTAPI * query)(PULONG, PULONG, PULONG) = MmGetSystemRoutineAddress(&name);
    ULONG coarsest = 0, finest = 0, now = 0;

    RULE("ExQueryTimerResolution function", "the coarsest, the finest and the resolution now, which lies between them") {
        EXPECT(query != NULL);
        if (!query)
            return;
        query(&coarsest, &finest, &now);
        EXPECT_EQ(coarsest, KeQueryTimeIncrement());
        EXPECT(finest > 0 && finest <= now && now <= coarsest);
    }
    RULE("ExSetTimerResolution function", "SetResolution: the finest that was asked for, and never finer than there is") {
        EXPECT(ExSetTimerResolution(20000, TRUE) <= 20000);
        EXPECT(ExSetTimerResolution(100000, TRUE) <= 20000);
        EXPECT_EQ(ExSetTimerResolution(1, TRUE), finest);
    }
    RULE("ExSetTimerResolution function", "each call is undone by one without SetResolution") {
        ExSetTimerResolution(0, FALSE);
        ExSetTimerResolution(0, FALSE);
        EXPECT_EQ(ExSetTimerResolution(0, FALSE), now);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    soon = after_us(5000000);
    events();
    timeouts();
    semaphores();
    mutexes();
    threads();
    timers();
    several();
    crowds();
    all_of_them();
    resolution();
}

SUITE("Ke waits")
