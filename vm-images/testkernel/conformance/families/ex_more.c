/* The executive, second part: pool of every size, timers that are deleted, zones, resources at the moment when they change hands,
 * and processes and threads by their numbers. */

#include "check.h"
#include "try.h"

GUARD(guarded, ".rva try_take")

#define TAG 'erMX'

/* What headers of the driver kit of old do not declare. */
NTKERNELAPI PVOID NTAPI PsGetCurrentThreadStackBase(VOID);
NTKERNELAPI PVOID NTAPI PsGetCurrentThreadStackLimit(VOID);
NTKERNELAPI PUCHAR NTAPI PsGetProcessImageFileName(PEPROCESS process);
NTKERNELAPI BOOLEAN NTAPI PsIsSystemProcess(PEPROCESS process);
NTKERNELAPI PEPROCESS NTAPI PsGetCurrentThreadProcess(VOID);
NTKERNELAPI NTSTATUS NTAPI KeExpandKernelStackAndCalloutEx(PVOID callout, PVOID parameter, SIZE_T size, BOOLEAN wait, PVOID context);
NTHALAPI BOOLEAN NTAPI HalMakeBeep(ULONG frequency);
NTSYSAPI NTSTATUS NTAPI ZwQueryInformationThread(HANDLE, THREADINFOCLASS, PVOID, ULONG, PULONG);
NTSYSAPI NTSTATUS NTAPI ZwOpenProcess(PHANDLE, ACCESS_MASK, POBJECT_ATTRIBUTES, CLIENT_ID *);

/* What is newer than the import library is found by its name, as drivers that run on older systems too do it. */
static PVOID(NTAPI *allocate3)(ULONG64 flags, SIZE_T bytes, ULONG tag, PVOID parameters, ULONG count);
static PEX_TIMER(NTAPI *allocate_timer)(PEXT_CALLBACK callback, PVOID context, ULONG attributes);
static BOOLEAN(NTAPI *set_timer)(PEX_TIMER timer, LONGLONG due, LONGLONG period, PVOID parameters);
static BOOLEAN(NTAPI *cancel_timer)(PEX_TIMER timer, PVOID parameters);
static BOOLEAN(NTAPI *delete_timer)(PEX_TIMER timer, BOOLEAN cancel, BOOLEAN wait, EXT_DELETE_PARAMETERS *parameters);

static PVOID found(PCWSTR name)
{
    UNICODE_STRING wanted;
    RtlInitUnicodeString(&wanted, name);
    return MmGetSystemRoutineAddress(&wanted);
}

static BOOLEAN find_all(void)
{
    return (allocate3 = found(L"ExAllocatePool3")) && (allocate_timer = found(L"ExAllocateTimer")) && (set_timer = found(L"ExSetTimer")) &&
           (cancel_timer = found(L"ExCancelTimer")) && (delete_timer = found(L"ExDeleteTimer"));
}

static int becomes(volatile LONG *value, LONG wanted)
{
    for (int i = 0; i < 5000 && *value != wanted; i++)
        sleep_us(1000);
    return *value == wanted;
}

static void allocate_or_raise(PVOID kind)
{
    ExAllocatePoolWithTag((POOL_TYPE)(ULONG_PTR)kind, (SIZE_T)1 << 40, TAG);
}

static void allocate_quota(PVOID unused)
{
    (void)unused;
    ExAllocatePoolWithQuotaTag(NonPagedPool, (SIZE_T)1 << 40, TAG);
}

static void check_pool(void)
{
    static const SIZE_T sizes[] = { 1, 15, 16, 17, 600, 1000, 1500, 2000, 2048, 2049, 3000, 3500, 4000, 4080, 4095 };
    PVOID blocks[RTL_NUMBER_OF(sizes) * 4];
    BOOLEAN charged;

    RULE("POOL_TYPE enumeration", "NonPagedPoolCacheAligned and PagedPoolCacheAligned: on a boundary of the caches' lines, whatever is allocated between") {
        for (ULONG i = 0; i < RTL_NUMBER_OF(blocks); i++) {
            static const POOL_TYPE types[] = { NonPagedPoolCacheAligned, PagedPoolCacheAligned, NonPagedPoolNxCacheAligned };
            SIZE_T size = sizes[i * 7 % RTL_NUMBER_OF(sizes)];
            blocks[i] = ExAllocatePoolWithTag(i & 1 ? types[i / 2 % 3] : NonPagedPool, size, TAG);
            EXPECT(blocks[i] && (!(i & 1) || (ULONG_PTR)blocks[i] % KeGetRecommendedSharedDataAlignment() == 0));
            if (blocks[i])
                RtlFillMemory(blocks[i], size, (UCHAR)i);
        }
        for (ULONG i = 0; i < RTL_NUMBER_OF(blocks); i++) {
            EXPECT(!blocks[i] || bytes_are(blocks[i], (UCHAR)i, sizes[i * 7 % RTL_NUMBER_OF(sizes)]));
            if (blocks[i])
                ExFreePoolWithTag(blocks[i], TAG);
        }
    }
    RULE("ExAllocatePoolWithTag function", "less than a page does not cross a page boundary, whatever else is allocated") {
        for (ULONG i = 0; i < RTL_NUMBER_OF(blocks); i++) {
            SIZE_T size = sizes[i * 7 % RTL_NUMBER_OF(sizes)];
            ULONG_PTR block = (ULONG_PTR)(blocks[i] = ExAllocatePoolWithTag(i & 1 ? PagedPool : NonPagedPool, size, TAG));
            EXPECT(block && block / PAGE_SIZE == (block + size - 1) / PAGE_SIZE && block % 16 == 0);
        }
        for (ULONG i = 0; i < RTL_NUMBER_OF(blocks); i++)
            ExFreePoolWithTag(blocks[i], TAG);
    }
    RULE("ExAllocatePoolWithTag function", "POOL_RAISE_IF_ALLOCATION_FAILURE: raises STATUS_INSUFFICIENT_RESOURCES") {
        EXPECT_STATUS(guarded(allocate_or_raise, (PVOID)(ULONG_PTR)(NonPagedPool | POOL_RAISE_IF_ALLOCATION_FAILURE)),
                      STATUS_INSUFFICIENT_RESOURCES);
        EXPECT_EQ(guarded(allocate_or_raise, (PVOID)NonPagedPool), 0);
    }
    RULE("ExAllocatePoolWithQuotaTag function", "raises STATUS_INSUFFICIENT_RESOURCES unless it is told to return NULL") {
        EXPECT_STATUS(guarded(allocate_quota, NULL), STATUS_INSUFFICIENT_RESOURCES);
    }
    RULE("ExAllocatePool3 function", "as ExAllocatePool2, zeroed; a priority is a parameter") {
        struct { ULONG64 kind, value; } priority = { 1, NormalPoolPriority };
        PVOID block = allocate3(0x40, 100, TAG, &priority, 1);
        EXPECT(block && bytes_are(block, 0, 100));
        ExFreePoolWithTag(block, TAG);
        EXPECT((block = allocate3(0x100, PAGE_SIZE, TAG, NULL, 0)) != NULL);
        EXPECT_EQ((ULONG_PTR)block % PAGE_SIZE, 0);
        ExFreePoolWithTag(block, TAG);
    }
    RULE("POOL_EXTENDED_PARAMETER structure", "one that is not known fails the call, unless it is optional") {
        struct { ULONG64 kind, value; } unknown = { 77, 0 };
        PVOID block;
        EXPECT_EQ(allocate3(0x40, 100, TAG, &unknown, 1), NULL);
        unknown.kind |= 1 << 8;
        block = allocate3(0x40, 100, TAG, &unknown, 1);
        EXPECT(block != NULL);
        if (block)
            ExFreePoolWithTag(block, TAG);
    }
    RULE("ExQueryPoolBlockSize function", "at least what was asked for; no quota was charged") {
        PVOID block = ExAllocatePoolWithTag(NonPagedPool, 100, TAG);
        charged = TRUE;
        EXPECT(ExQueryPoolBlockSize(block, &charged) >= 100);
        EXPECT(!charged);
        ExFreePoolWithTag(block, TAG);
    }
}

static volatile LONG expirations, deletions, deleted_at;

static VOID NTAPI expired(PEX_TIMER timer, PVOID context)
{
    (void)timer;
    (void)context;
    InterlockedIncrement(&expirations);
}

static VOID NTAPI deleted(PVOID context)
{
    deleted_at = expirations;
    InterlockedAdd(&deletions, (LONG)(ULONG_PTR)context);
}

static void check_timers(void)
{
    EXT_DELETE_PARAMETERS parameters = { .DeleteCallback = deleted, .DeleteContext = (PVOID)7 };
    PEX_TIMER timer;

    RULE("EXT_DELETE_CALLBACK callback function", "with Wait it runs before ExDeleteTimer returns, with its context") {
        deletions = 0;
        timer = allocate_timer(expired, NULL, 0);
        set_timer(timer, -100000000, 0, NULL);
        EXPECT(delete_timer(timer, TRUE, TRUE, &parameters));
        EXPECT_EQ(deletions, 7);
    }
    RULE("EXT_DELETE_CALLBACK callback function", "without Wait it runs too, before ExDeleteTimer returns or after") {
        timer = allocate_timer(expired, NULL, 0);
        EXPECT(!delete_timer(timer, TRUE, FALSE, &parameters));
        EXPECT(becomes(&deletions, 14));
    }
    RULE("EXT_DELETE_CALLBACK callback function", "only after an operation that is not cancelled has completed") {
        expirations = 0;
        timer = allocate_timer(expired, NULL, 0);
        set_timer(timer, -200000, 0, NULL);
        EXPECT(!delete_timer(timer, FALSE, FALSE, &parameters));
        EXPECT(becomes(&deletions, 21));
        EXPECT_EQ(deleted_at, 1);
    }
    RULE("ExDeleteTimer function", "FALSE where the timer was never set") {
        parameters.DeleteCallback = NULL;
        timer = allocate_timer(NULL, NULL, EX_TIMER_HIGH_RESOLUTION);
        EXPECT(!cancel_timer(timer, NULL));
        EXPECT(!delete_timer(timer, TRUE, TRUE, &parameters));
    }
}

static volatile LONG told;

static VOID NTAPI tell(PVOID context, PVOID first, PVOID second)
{
    (void)context;
    (void)first;
    (void)second;
    InterlockedIncrement(&told);
}

static void check_callbacks(void)
{
    static const PCWSTR names[] = { L"\\Callback\\PowerState", L"\\Callback\\SetSystemTime", L"\\Callback\\ProcessorAdd" };
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES attributes;
    PCALLBACK_OBJECT object;
    PVOID registration;

    RULE("Using a System-Defined Callback Object", "the system's own are there, for any number of routines") {
        for (ULONG i = 0; i < RTL_NUMBER_OF(names); i++) {
            RtlInitUnicodeString(&name, names[i]);
            InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
            EXPECT_STATUS(ExCreateCallback(&object, &attributes, FALSE, TRUE), STATUS_SUCCESS);
            for (int both = 0; both < 2; both++) {
                registration = ExRegisterCallback(object, tell, NULL);
                EXPECT(registration != NULL);
                ExUnregisterCallback(registration);
            }
            ObDereferenceObject(object);
        }
    }
    RULE("ExNotifyCallback function", "may be called at DISPATCH_LEVEL; calls each routine that is registered once") {
        KIRQL old;
        PVOID other;
        RtlInitUnicodeString(&name, L"\\Callback\\SquallExMore");
        InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
        EXPECT_STATUS(ExCreateCallback(&object, &attributes, TRUE, TRUE), STATUS_SUCCESS);
        registration = ExRegisterCallback(object, tell, (PVOID)1);
        other = ExRegisterCallback(object, tell, (PVOID)2);
        told = 0;
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        ExNotifyCallback(object, NULL, NULL);
        KeLowerIrql(old);
        EXPECT_EQ(told, 2);
        ExUnregisterCallback(registration);
        ExNotifyCallback(object, NULL, NULL);
        EXPECT_EQ(told, 3);
        ExUnregisterCallback(other);
        ObDereferenceObject(object);
    }
}

static KEVENT all_there;
static volatile LONG workers_there;
#define WORKERS 20

static VOID NTAPI meet(PVOID unused)
{
    (void)unused;
    if (InterlockedIncrement(&workers_there) == WORKERS)
        KeSetEvent(&all_there, 0, FALSE);
    KeWaitForSingleObject(&all_there, Executive, KernelMode, FALSE, NULL);
    InterlockedDecrement(&workers_there);
}

static void check_work(void)
{
    static WORK_QUEUE_ITEM items[WORKERS];

    RULE("ExQueueWorkItem function", "items that wait for one another do not wait for ever") {
        LARGE_INTEGER patience = after_us(20000000);
        workers_there = 0;
        KeInitializeEvent(&all_there, NotificationEvent, FALSE);
        for (int i = 0; i < WORKERS; i++) {
            ExInitializeWorkItem(&items[i], meet, NULL);
            ExQueueWorkItem(&items[i], DelayedWorkQueue);
        }
        EXPECT_STATUS(KeWaitForSingleObject(&all_there, Executive, KernelMode, FALSE, &patience), STATUS_SUCCESS);
        KeSetEvent(&all_there, 0, FALSE);
        EXPECT(becomes(&workers_there, 0));
    }
}

static void check_zones(void)
{
    static ULONGLONG segments[3][32];
    ZONE_HEADER zone;
    KSPIN_LOCK lock;
    PVOID blocks[8];
    ULONG count;

    KeInitializeSpinLock(&lock);
    RULE("ExInitializeZone function", "as many blocks as there is room for, in the segment") {
        EXPECT_STATUS(ExInitializeZone(&zone, 64, segments[0], sizeof(segments[0])), STATUS_SUCCESS);
        for (count = 0; !ExIsFullZone(&zone) && count < 8; count++) {
            blocks[count] = ExAllocateFromZone(&zone);
            EXPECT(ExIsObjectInFirstZoneSegment(&zone, blocks[count]));
        }
        EXPECT_EQ(count, 3);
        EXPECT_EQ(ExAllocateFromZone(&zone), NULL);
    }
    RULE("ExFreeToZone function", "what is freed is allocated again") {
        ExFreeToZone(&zone, blocks[0]);
        EXPECT_EQ(ExAllocateFromZone(&zone), blocks[0]);
    }
    RULE("ExExtendZone function", "adds a segment's blocks; STATUS_UNSUCCESSFUL for one that is not aligned") {
        EXPECT_STATUS(ExExtendZone(&zone, (PUCHAR)segments[1] + 4, 128), STATUS_UNSUCCESSFUL);
        EXPECT_STATUS(ExExtendZone(&zone, segments[1], sizeof(segments[1])), STATUS_SUCCESS);
        EXPECT(ExAllocateFromZone(&zone) >= (PVOID)segments[1]);
    }
    RULE("ExInterlockedExtendZone function", "likewise under a spin lock") {
        EXPECT_STATUS(ExInterlockedExtendZone(&zone, segments[2], sizeof(segments[2]), &lock), STATUS_SUCCESS);
        for (count = 0; ExInterlockedPopEntryList(&zone.FreeList, &lock); count++)
            ;
        EXPECT_EQ(count, 5);
    }
    RULE("ExInitializeZone function", "STATUS_INVALID_PARAMETER for blocks that do not fit, or are not aligned") {
        EXPECT_STATUS(ExInitializeZone(&zone, 512, segments[0], sizeof(segments[0])), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(ExInitializeZone(&zone, 20, segments[0], sizeof(segments[0])), STATUS_INVALID_PARAMETER);
    }
}

static ERESOURCE resource;
static volatile LONG readers, writers;
static KEVENT let_go;

static VOID NTAPI read_it(PVOID unused)
{
    (void)unused;
    ExEnterCriticalRegionAndAcquireResourceShared(&resource);
    InterlockedIncrement(&readers);
    KeWaitForSingleObject(&let_go, Executive, KernelMode, FALSE, NULL);
    ExReleaseResourceAndLeaveCriticalRegion(&resource);
    InterlockedDecrement(&readers);
}

static VOID NTAPI write_it(PVOID unused)
{
    (void)unused;
    ExEnterCriticalRegionAndAcquireResourceExclusive(&resource);
    InterlockedIncrement(&writers);
    ExReleaseResourceAndLeaveCriticalRegion(&resource);
}

/* The resource is the caller's; a writer waits for it, and then a reader. */
static void queue_up(PKTHREAD threads[2])
{
    readers = writers = 0;
    KeInitializeEvent(&let_go, NotificationEvent, FALSE);
    ExEnterCriticalRegionAndAcquireResourceExclusive(&resource);
    threads[0] = start_thread(write_it, NULL);
    while (!ExGetExclusiveWaiterCount(&resource))
        sleep_us(200);
    threads[1] = start_thread(read_it, NULL);
    while (!ExGetSharedWaiterCount(&resource))
        sleep_us(200);
}

static void let_end(PKTHREAD threads[2])
{
    KeSetEvent(&let_go, 0, FALSE);
    join_thread(threads[0]);
    join_thread(threads[1]);
}

static void check_resources(void)
{
    PKTHREAD threads[2];

    ExInitializeResourceLite(&resource);
    RULE("ExConvertExclusiveToSharedLite function", "who waits for shared access shares it, though somebody waits for exclusive access") {
        queue_up(threads);
        ExConvertExclusiveToSharedLite(&resource);
        EXPECT(becomes(&readers, 1));
        EXPECT_EQ(writers, 0);
        EXPECT_EQ(ExGetSharedWaiterCount(&resource), 0);
        EXPECT_EQ(ExGetExclusiveWaiterCount(&resource), 1);
        ExReleaseResourceAndLeaveCriticalRegion(&resource);
        let_end(threads);
        EXPECT_EQ(writers, 1);
    }
    RULE("ExReleaseResourceLite function", "both kinds of waiters get the resource in the end") {
        queue_up(threads);
        ExReleaseResourceAndLeaveCriticalRegion(&resource);
        let_end(threads);
        EXPECT_EQ(writers, 1);
        EXPECT_EQ(readers, 0);
    }
    RULE("ExSetResourceOwnerPointer function", "its owner is who the pointer stands for; released with the pointer, by any thread") {
        ERESOURCE_THREAD owner = (ERESOURCE_THREAD)&resource | 3;
        KeEnterCriticalRegion();
        ExAcquireResourceExclusiveLite(&resource, TRUE);
        ExSetResourceOwnerPointer(&resource, (PVOID)owner);
        EXPECT(!ExIsResourceAcquiredExclusiveLite(&resource));
        EXPECT(!ExAcquireResourceSharedLite(&resource, FALSE));
        ExReleaseResourceForThreadLite(&resource, owner);
        EXPECT(ExAcquireResourceSharedLite(&resource, FALSE));
        ExReleaseResourceLite(&resource);
        KeLeaveCriticalRegion();
    }
    RULE("ExAcquireResourceExclusiveLite function", "FALSE where the caller shares it and does not wait; it shares it still") {
        KeEnterCriticalRegion();
        ExAcquireResourceSharedLite(&resource, TRUE);
        EXPECT(!ExAcquireResourceExclusiveLite(&resource, FALSE));
        EXPECT_EQ(ExIsResourceAcquiredSharedLite(&resource), 1);
        ExReleaseResourceLite(&resource);
        KeLeaveCriticalRegion();
    }
    ExDeleteResourceLite(&resource);
}

static volatile LONG yielded, stack_ok;

static VOID NTAPI yields(PVOID unused)
{
    (void)unused;
    KeSetSystemAffinityThreadEx(1);
    KeSetPriorityThread(KeGetCurrentThread(), LOW_REALTIME_PRIORITY);
    InterlockedIncrement(&yielded);
    KeWaitForSingleObject(&let_go, Executive, KernelMode, FALSE, NULL);
    InterlockedIncrement(&yielded);
}

static VOID NTAPI ends_with_a_status(PVOID unused)
{
    (void)unused;
    PsTerminateSystemThread(STATUS_DISK_FULL);
}

static VOID NTAPI on_more_stack(PVOID size)
{
    stack_ok = IoGetRemainingStackSize() > 0 && size != NULL;
}

static void check_threads(void)
{
    CLIENT_ID client = { 0 };
    HANDLE handle;
    PEPROCESS process = NULL;
    PETHREAD thread = NULL;
    LONG priority = 10;
    ULONG processor = 0;
    KAFFINITY nowhere = (KAFFINITY)1 << 50, here = 1;
    ULONG_PTR local = (ULONG_PTR)&client;

    RULE("PsCreateSystemThread function", "the client identifier names the thread that was made, in the system's process") {
        EXPECT_STATUS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, &client, yields, NULL), STATUS_SUCCESS);
        EXPECT_EQ(client.UniqueProcess, PsGetProcessId(PsInitialSystemProcess));
        ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, (PVOID *)&thread, NULL);
        EXPECT_EQ(PsGetThreadId(thread), client.UniqueThread);
        KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(thread);
        ZwClose(handle);
    }
    client.UniqueThread = PsGetCurrentThreadId();
    RULE("PsLookupProcessThreadByCid function", "process and thread with a reference each") {
        EXPECT_STATUS(PsLookupProcessThreadByCid(&client, &process, &thread), STATUS_SUCCESS);
        EXPECT(process == PsInitialSystemProcess && thread == PsGetCurrentThread());
        ObDereferenceObject(process);
        ObDereferenceObject(thread);
        EXPECT_STATUS(PsLookupProcessThreadByCid(&client, NULL, &thread), STATUS_SUCCESS);
        ObDereferenceObject(thread);
    }
    RULE("ZwOpenProcess function", "STATUS_INVALID_CID where there is no such process") {
        OBJECT_ATTRIBUTES attributes;
        CLIENT_ID other = { (HANDLE)0x7654, NULL };
        InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
        EXPECT_STATUS(ZwOpenProcess(&handle, PROCESS_ALL_ACCESS, &attributes, &other), STATUS_INVALID_CID);
        EXPECT_STATUS(ZwOpenProcess(&handle, PROCESS_ALL_ACCESS, &attributes, &client), STATUS_SUCCESS);
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, PROCESS_ALL_ACCESS, *PsProcessType, KernelMode, (PVOID *)&process, NULL),
                      STATUS_SUCCESS);
        EXPECT_EQ(process, PsInitialSystemProcess);
        ObDereferenceObject(process);
        ZwClose(handle);
    }
    RULE("ZwSetInformationThread function", "ThreadPriority; STATUS_INFO_LENGTH_MISMATCH for another length") {
        LONG before = KeQueryPriorityThread(KeGetCurrentThread());
        EXPECT_STATUS(ZwOpenThread(&handle, THREAD_ALL_ACCESS, NULL, &client), STATUS_SUCCESS);
        EXPECT_STATUS(ZwSetInformationThread(handle, ThreadPriority, &priority, sizeof(priority)), STATUS_SUCCESS);
        EXPECT_EQ(KeQueryPriorityThread(KeGetCurrentThread()), 10);
        EXPECT_STATUS(ZwSetInformationThread(handle, ThreadPriority, &priority, 2), STATUS_INFO_LENGTH_MISMATCH);
        KeSetPriorityThread(KeGetCurrentThread(), before);
        ZwClose(handle);
    }
    RULE("ZwSetInformationThread function", "ThreadAffinityMask binds the thread; not to processors that there are not") {
        EXPECT_STATUS(ZwSetInformationThread((HANDLE)-2, ThreadAffinityMask, &nowhere, sizeof(nowhere)), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(ZwSetInformationThread((HANDLE)-2, ThreadAffinityMask, &here, sizeof(here)), STATUS_SUCCESS);
        EXPECT_EQ(KeGetCurrentProcessorNumber(), 0);
        KeRevertToUserAffinityThreadEx(0);
    }
    RULE("ZwQueryInformationThread", "ThreadBasicInformation: who it is, how it ended or that it has not") {
        struct { NTSTATUS status; PVOID teb; CLIENT_ID client; ULONG_PTR affinity; LONG priority, base; } basic;
        ULONG length = 0;
        EXPECT_STATUS(ZwQueryInformationThread((HANDLE)-2, ThreadBasicInformation, &basic, sizeof(basic), &length), STATUS_SUCCESS);
        EXPECT_EQ(length, sizeof(basic));
        EXPECT_STATUS(basic.status, STATUS_PENDING);
        EXPECT_EQ(basic.client.UniqueThread, PsGetCurrentThreadId());
        EXPECT_EQ(basic.priority, KeQueryPriorityThread(KeGetCurrentThread()));
        EXPECT_STATUS(ZwQueryInformationThread((HANDLE)-2, ThreadBasicInformation, &basic, 8, NULL), STATUS_INFO_LENGTH_MISMATCH);
        PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, ends_with_a_status, NULL);
        EXPECT_STATUS(ZwWaitForSingleObject(handle, FALSE, NULL), STATUS_SUCCESS);
        ZwQueryInformationThread(handle, ThreadBasicInformation, &basic, sizeof(basic), NULL);
        EXPECT_STATUS(basic.status, STATUS_DISK_FULL);
        ZwClose(handle);
    }
    RULE("ZwQueryInformationProcess", "ProcessBasicInformation of the system's process; STATUS_INVALID_INFO_CLASS for no class") {
        PROCESS_BASIC_INFORMATION basic;
        EXPECT_STATUS(ZwQueryInformationProcess((HANDLE)-1, ProcessBasicInformation, &basic, sizeof(basic), NULL), STATUS_SUCCESS);
        EXPECT_EQ(basic.UniqueProcessId, PsGetCurrentProcessId());
        EXPECT_EQ(basic.AffinityMask, KeQueryActiveProcessors());
        EXPECT_STATUS(ZwQueryInformationProcess((HANDLE)-1, (PROCESSINFOCLASS)9999, &basic, sizeof(basic), NULL), STATUS_INVALID_INFO_CLASS);
    }
    RULE("ZwWaitForMultipleObjects", "any or all of what handles stand for; refuses no handles, and one twice among all") {
        HANDLE handles[2];
        LARGE_INTEGER none = { .QuadPart = 0 };
        ZwCreateEvent(&handles[0], EVENT_ALL_ACCESS, NULL, NotificationEvent, FALSE);
        ZwCreateEvent(&handles[1], EVENT_ALL_ACCESS, NULL, NotificationEvent, TRUE);
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, handles, WaitAny, FALSE, NULL), STATUS_WAIT_1);
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, handles, WaitAll, FALSE, &none), STATUS_TIMEOUT);
        EXPECT_STATUS(ZwWaitForMultipleObjects(0, handles, WaitAny, FALSE, &none), STATUS_INVALID_PARAMETER_1);
        ZwSetEvent(handles[0], NULL);
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, handles, WaitAll, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(ZwPulseEvent(handles[0], NULL), STATUS_SUCCESS);
        EXPECT_STATUS(ZwWaitForSingleObject(handles[0], FALSE, &none), STATUS_TIMEOUT);
        ZwClose(handles[0]);
        handles[0] = handles[1];
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, handles, WaitAll, FALSE, &none), STATUS_INVALID_PARAMETER_MIX);
        ZwClose(handles[1]);
        EXPECT_STATUS(ZwWaitForMultipleObjects(1, handles, WaitAny, FALSE, &none), STATUS_INVALID_HANDLE);
    }
    RULE("KeSetIdealProcessorThread function", "returns the ideal processor before") {
        processor = KeSetIdealProcessorThread(KeGetCurrentThread(), 0);
        EXPECT_EQ(KeSetIdealProcessorThread(KeGetCurrentThread(), (UCHAR)processor), 0);
        EXPECT(processor < KeQueryActiveProcessorCount(NULL));
    }
    RULE("ZwYieldExecution function", "another thread of the same priority on this processor runs meanwhile") {
        LONG before = KeQueryPriorityThread(KeGetCurrentThread());
        PKTHREAD other;
        KIRQL old;
        yielded = 0;
        KeInitializeEvent(&let_go, SynchronizationEvent, FALSE);
        other = start_thread(yields, NULL);
        EXPECT(becomes(&yielded, 1));
        sleep_us(20000);
        KeSetSystemAffinityThreadEx(1);
        KeSetPriorityThread(KeGetCurrentThread(), LOW_REALTIME_PRIORITY);
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        KeSetEvent(&let_go, 0, FALSE);
        /* It is ready, and this processor is not its own yet. */
        EXPECT_EQ(yielded, 1);
        KeLowerIrql(old);
        /* The end of a time slice may have come first. */
        ZwYieldExecution();
        EXPECT_EQ(yielded, 2);
        KeSetPriorityThread(KeGetCurrentThread(), before);
        KeRevertToUserAffinityThreadEx(0);
        join_thread(other);
    }
    RULE("IoGetStackLimits function", "a local variable lies within; so PsGetCurrentThreadStackBase and its limit say") {
        EXPECT(local >= (ULONG_PTR)PsGetCurrentThreadStackLimit() && local < (ULONG_PTR)PsGetCurrentThreadStackBase());
    }
    RULE("KeExpandKernelStackAndCalloutEx function", "calls the routine; STATUS_INVALID_PARAMETER_3 for too much, a context is reserved") {
        EXPECT_STATUS(KeExpandKernelStackAndCalloutEx(on_more_stack, (PVOID)1, 0x4000, TRUE, NULL), STATUS_SUCCESS);
        EXPECT(stack_ok);
        EXPECT_STATUS(KeExpandKernelStackAndCalloutEx(on_more_stack, NULL, 1 << 24, TRUE, NULL), STATUS_INVALID_PARAMETER_3);
    }
    RULE("PsInitialSystemProcess", "the process of every system thread, of the name System") {
        EXPECT(PsIsSystemProcess(PsGetCurrentThreadProcess()));
        EXPECT_EQ(PsGetProcessImageFileName(PsInitialSystemProcess)[0], 'S');
    }
    RULE("KdChangeOption function", "STATUS_DEBUGGER_INACTIVE where no debugger is there") {
        BOOLEAN block = TRUE;
        EXPECT_STATUS(KdChangeOption(KD_OPTION_SET_BLOCK_ENABLE, sizeof(block), &block, 0, NULL, NULL), STATUS_DEBUGGER_INACTIVE);
    }
    RULE("HalMakeBeep function", "TRUE for a tone and for silence") {
        EXPECT(HalMakeBeep(440));
        EXPECT(HalMakeBeep(0));
    }
    RULE("KeGetRecommendedSharedDataAlignment function", "a power of two, a line of the caches") {
        ULONG alignment = KeGetRecommendedSharedDataAlignment();
        EXPECT(alignment >= 16 && !(alignment & (alignment - 1)));
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    RULE("MmGetSystemRoutineAddress function", "routines that this version of the system has are found by their names") {
        EXPECT(find_all());
    }
    if (!find_all())
        return;
    check_pool();
    check_timers();
    check_callbacks();
    check_work();
    check_zones();
    check_resources();
    check_threads();
}

SUITE("ex_more")
