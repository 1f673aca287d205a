/* The executive: pool, lookaside lists, interlocked lists, locks above DISPATCH_LEVEL's, rundown protection, work items,
 * callbacks. */
#include <check.h>

#define TAG 'fnoC'

static void pool(void)
{
    PUCHAR memory;

    RULE("ExAllocatePoolWithTag function", "memory of at least 8 bytes alignment; 16 on 64-bit systems") {
        for (SIZE_T size = 1; size < 200; size += 7) {
            memory = ExAllocatePoolWithTag(NonPagedPool, size, TAG);
            EXPECT(memory != NULL);
            EXPECT_EQ((ULONG_PTR)memory & 15, 0);
            RtlFillMemory(memory, size, 0xA5);
            ExFreePoolWithTag(memory, TAG);
        }
    }
    RULE("ExAllocatePoolWithTag function", "a page or more is page aligned") {
        memory = ExAllocatePoolWithTag(NonPagedPool, PAGE_SIZE, TAG);
        EXPECT(memory != NULL);
        EXPECT_EQ((ULONG_PTR)memory & (PAGE_SIZE - 1), 0);
        RtlFillMemory(memory, PAGE_SIZE, 0xA5);
        ExFreePoolWithTag(memory, TAG);
        memory = ExAllocatePoolWithTag(PagedPool, 3 * PAGE_SIZE + 1, TAG);
        EXPECT_EQ((ULONG_PTR)memory & (PAGE_SIZE - 1), 0);
        ExFreePool(memory);
    }
    RULE("ExAllocatePoolWithTag function", "less than a page does not cross a page boundary") {
        for (int i = 0; i < 40; i++) {
            memory = ExAllocatePoolWithTag(NonPagedPool, 1000, TAG);
            EXPECT_EQ((ULONG_PTR)memory / PAGE_SIZE, ((ULONG_PTR)memory + 999) / PAGE_SIZE);
            ExFreePool(memory);
        }
    }
    RULE("ExAllocatePoolWithTag function", "NULL where there is no such memory") {
        EXPECT(ExAllocatePoolWithTag(NonPagedPool, (SIZE_T)1 << 40, TAG) == NULL);
        EXPECT(ExAllocatePoolWithTag(PagedPool, ~(SIZE_T)0 - PAGE_SIZE, TAG) == NULL);
    }
    RULE("ExAllocatePoolWithTag function", "nonpaged memory may be allocated and freed at DISPATCH_LEVEL") {
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        memory = ExAllocatePoolWithTag(NonPagedPool, 64, TAG);
        if (memory)
            ExFreePoolWithTag(memory, TAG);
        KeLowerIrql(irql);
        EXPECT(memory != NULL);
    }
    RULE("ExAllocatePoolWithTag function", "allocations do not overlap") {
        PUCHAR many[32];
        for (int i = 0; i < 32; i++) {
            many[i] = ExAllocatePoolWithTag(NonPagedPool, 48 + i, TAG);
            RtlFillMemory(many[i], 48 + i, (UCHAR)i);
        }
        for (int i = 0; i < 32; i++) {
            EXPECT(bytes_are(many[i], (UCHAR)i, 48 + i));
            ExFreePoolWithTag(many[i], TAG);
        }
    }
    RULE("ExAllocatePoolWithQuotaTag function", "with POOL_QUOTA_FAIL_INSTEAD_OF_RAISE it returns NULL on failure") {
        EXPECT(ExAllocatePoolWithQuotaTag(NonPagedPool | POOL_QUOTA_FAIL_INSTEAD_OF_RAISE, (SIZE_T)1 << 40, TAG) == NULL);
        memory = ExAllocatePoolWithQuotaTag(NonPagedPool | POOL_QUOTA_FAIL_INSTEAD_OF_RAISE, 32, TAG);
        EXPECT(memory != NULL);
        ExFreePoolWithTag(memory, TAG);
    }
    RULE("ExAllocatePoolWithTagPriority function", "gives memory at every priority while there is plenty") {
        memory = ExAllocatePoolWithTagPriority(NonPagedPool, 32, TAG, LowPoolPriority);
        EXPECT(memory != NULL);
        ExFreePoolWithTag(memory, TAG);
    }
    RULE("ExAllocatePool function", "an allocation without a tag") {
        memory = (ExAllocatePool)(NonPagedPool, 32);
        EXPECT(memory != NULL);
        ExFreePool(memory);
    }
}

typedef struct _ENTRY {
    LIST_ENTRY link;
    SINGLE_LIST_ENTRY single;
    ULONG number;
} ENTRY;

static void lists(void)
{
    LIST_ENTRY head;
    ENTRY a = { .number = 1 }, b = { .number = 2 }, c = { .number = 3 };
    KSPIN_LOCK lock;

    KeInitializeSpinLock(&lock);
    InitializeListHead(&head);
    RULE("ExInterlockedInsertHeadList function", "returns the former first entry, NULL where the list was empty") {
        EXPECT(ExInterlockedInsertHeadList(&head, &a.link, &lock) == NULL);
        EXPECT(ExInterlockedInsertHeadList(&head, &b.link, &lock) == &a.link);
    }
    RULE("ExInterlockedInsertTailList function", "returns the former last entry") {
        EXPECT(ExInterlockedInsertTailList(&head, &c.link, &lock) == &a.link);
    }
    RULE("ExInterlockedRemoveHeadList function", "takes the first entry; NULL where the list is empty") {
        EXPECT(ExInterlockedRemoveHeadList(&head, &lock) == &b.link);
        EXPECT(ExInterlockedRemoveHeadList(&head, &lock) == &a.link);
        EXPECT(ExInterlockedRemoveHeadList(&head, &lock) == &c.link);
        EXPECT(ExInterlockedRemoveHeadList(&head, &lock) == NULL);
    }
    RULE("ExInterlockedPushEntryList function", "returns the former first entry; popping takes the last one pushed") {
        SINGLE_LIST_ENTRY single = { NULL };
        EXPECT(ExInterlockedPushEntryList(&single, &a.single, &lock) == NULL);
        EXPECT(ExInterlockedPushEntryList(&single, &b.single, &lock) == &a.single);
        EXPECT(ExInterlockedPopEntryList(&single, &lock) == &b.single);
        EXPECT(ExInterlockedPopEntryList(&single, &lock) == &a.single);
        EXPECT(ExInterlockedPopEntryList(&single, &lock) == NULL);
    }
    RULE("ExInterlockedAddUlong function", "returns the former value") {
        ULONG value = 5;
        EXPECT_EQ(ExInterlockedAddUlong(&value, 7, &lock), 5);
        EXPECT_EQ(value, 12);
    }
    RULE("ExInterlockedAddLargeInteger function", "returns the former value") {
        LARGE_INTEGER value, add;
        value.QuadPart = 0xFFFFFFFF;
        add.QuadPart = 1;
        EXPECT_EQ(ExInterlockedAddLargeInteger(&value, add, &lock).QuadPart, 0xFFFFFFFF);
        EXPECT_EQ(value.QuadPart, 0x100000000LL);
    }
}

static void slists(void)
{
    static SLIST_HEADER head;
    static SLIST_ENTRY entries[3];

    RULE("ExInitializeSListHead function", "an empty list of depth zero") {
        InitializeSListHead(&head);
        EXPECT_EQ(ExQueryDepthSList(&head), 0);
        EXPECT(ExpInterlockedPopEntrySList(&head) == NULL);
    }
    RULE("ExInterlockedPushEntrySList function", "returns the former first entry; the depth grows") {
        EXPECT(ExpInterlockedPushEntrySList(&head, &entries[0]) == NULL);
        EXPECT(ExpInterlockedPushEntrySList(&head, &entries[1]) == &entries[0]);
        EXPECT(ExpInterlockedPushEntrySList(&head, &entries[2]) == &entries[1]);
        EXPECT_EQ(ExQueryDepthSList(&head), 3);
    }
    RULE("ExInterlockedPopEntrySList function", "takes the entry that was pushed last") {
        EXPECT(ExpInterlockedPopEntrySList(&head) == &entries[2]);
        EXPECT_EQ(ExQueryDepthSList(&head), 2);
    }
    RULE("ExInterlockedFlushSList function", "takes all entries, as a chain") {
        PSLIST_ENTRY chain = ExpInterlockedFlushSList(&head);
        EXPECT(chain == &entries[1]);
        EXPECT(chain->Next == &entries[0]);
        EXPECT_EQ(ExQueryDepthSList(&head), 0);
    }
}

static volatile LONG lookaside_allocations, lookaside_frees;

static PVOID NTAPI own_allocate(POOL_TYPE type, SIZE_T size, ULONG tag)
{
    InterlockedIncrement(&lookaside_allocations);
    return ExAllocatePoolWithTag(type, size, tag);
}

static VOID NTAPI own_free(PVOID memory)
{
    InterlockedIncrement(&lookaside_frees);
    ExFreePool(memory);
}

static void lookasides(void)
{
    static NPAGED_LOOKASIDE_LIST nonpaged;
    static PAGED_LOOKASIDE_LIST paged;

    RULE("ExInitializeNPagedLookasideList function", "entries of the size asked for, given back and taken again") {
        PUCHAR entry;
        ExInitializeNPagedLookasideList(&nonpaged, NULL, NULL, 0, 100, TAG, 0);
        entry = ExAllocateFromNPagedLookasideList(&nonpaged);
        EXPECT(entry != NULL);
        RtlFillMemory(entry, 100, 1);
        ExFreeToNPagedLookasideList(&nonpaged, entry);
        EXPECT(ExAllocateFromNPagedLookasideList(&nonpaged) == entry);
        ExFreeToNPagedLookasideList(&nonpaged, entry);
        ExDeleteNPagedLookasideList(&nonpaged);
    }
    RULE("ExInitializeNPagedLookasideList function", "the driver's own routines allocate and free its entries") {
        PVOID entry;
        lookaside_allocations = lookaside_frees = 0;
        ExInitializeNPagedLookasideList(&nonpaged, own_allocate, own_free, 0, 64, TAG, 0);
        entry = ExAllocateFromNPagedLookasideList(&nonpaged);
        EXPECT_EQ(lookaside_allocations, 1);
        ExFreeToNPagedLookasideList(&nonpaged, entry);
        ExDeleteNPagedLookasideList(&nonpaged);
        EXPECT_EQ(lookaside_frees, 1);
    }
    RULE("ExInitializePagedLookasideList function", "the same of paged memory") {
        PVOID entry;
        ExInitializePagedLookasideList(&paged, NULL, NULL, 0, 64, TAG, 0);
        entry = ExAllocateFromPagedLookasideList(&paged);
        EXPECT(entry != NULL);
        ExFreeToPagedLookasideList(&paged, entry);
        ExDeletePagedLookasideList(&paged);
    }
}

static struct {
    FAST_MUTEX mutex;
    ERESOURCE resource;
    KEVENT step, done;
    BOOLEAN got;
    ULONG waiters;
} shared;

static VOID NTAPI try_mutex(PVOID context)
{
    shared.got = ExTryToAcquireFastMutex(&shared.mutex);
    if (shared.got)
        ExReleaseFastMutex(&shared.mutex);
}

static VOID NTAPI try_shared(PVOID context)
{
    KeEnterCriticalRegion();
    shared.got = ExAcquireResourceSharedLite(&shared.resource, FALSE);
    if (shared.got)
        ExReleaseResourceLite(&shared.resource);
    KeLeaveCriticalRegion();
}

static VOID NTAPI try_exclusive(PVOID context)
{
    KeEnterCriticalRegion();
    shared.got = ExAcquireResourceExclusiveLite(&shared.resource, FALSE);
    if (shared.got)
        ExReleaseResourceLite(&shared.resource);
    KeLeaveCriticalRegion();
}

static VOID NTAPI wait_exclusive(PVOID context)
{
    KeEnterCriticalRegion();
    ExAcquireResourceExclusiveLite(&shared.resource, TRUE);
    KeSetEvent(&shared.done, 0, FALSE);
    ExReleaseResourceLite(&shared.resource);
    KeLeaveCriticalRegion();
}

static void elsewhere(PKSTART_ROUTINE routine)
{
    join_thread(start_thread(routine, NULL));
}

static void mutexes(void)
{
    KGUARDED_MUTEX guarded;

    ExInitializeFastMutex(&shared.mutex);
    RULE("ExAcquireFastMutex function", "raises to APC_LEVEL; ExReleaseFastMutex restores the level") {
        ExAcquireFastMutex(&shared.mutex);
        EXPECT_EQ(KeGetCurrentIrql(), APC_LEVEL);
        ExReleaseFastMutex(&shared.mutex);
        EXPECT_PASSIVE();
    }
    RULE("ExTryToAcquireFastMutex function", "FALSE and the old level where another thread holds it") {
        ExAcquireFastMutex(&shared.mutex);
        elsewhere(try_mutex);
        EXPECT(!shared.got);
        ExReleaseFastMutex(&shared.mutex);
        elsewhere(try_mutex);
        EXPECT(shared.got);
    }
    RULE("ExAcquireFastMutexUnsafe function", "does not change the level") {
        KeEnterCriticalRegion();
        ExAcquireFastMutexUnsafe(&shared.mutex);
        EXPECT_PASSIVE();
        ExReleaseFastMutexUnsafe(&shared.mutex);
        KeLeaveCriticalRegion();
    }
    RULE("KeAcquireGuardedMutex function", "stays at its level, in a guarded region") {
        KeInitializeGuardedMutex(&guarded);
        KeAcquireGuardedMutex(&guarded);
        EXPECT_PASSIVE();
        EXPECT(KeAreAllApcsDisabled());
        KeReleaseGuardedMutex(&guarded);
        EXPECT(!KeAreAllApcsDisabled());
    }
    RULE("KeTryToAcquireGuardedMutex function", "TRUE where it was free") {
        EXPECT(KeTryToAcquireGuardedMutex(&guarded));
        EXPECT(KeAreAllApcsDisabled());
        KeReleaseGuardedMutex(&guarded);
    }
}

static void resources(void)
{
    PKTHREAD thread;

    RULE("ExInitializeResourceLite function", "STATUS_SUCCESS; nobody holds it") {
        EXPECT_STATUS(ExInitializeResourceLite(&shared.resource), STATUS_SUCCESS);
        EXPECT(!ExIsResourceAcquiredExclusiveLite(&shared.resource));
        EXPECT_EQ(ExIsResourceAcquiredSharedLite(&shared.resource), 0);
    }
    KeEnterCriticalRegion();
    RULE("ExAcquireResourceExclusiveLite function", "its owner may acquire it again; others cannot, shared or exclusive") {
        EXPECT(ExAcquireResourceExclusiveLite(&shared.resource, TRUE));
        EXPECT(ExAcquireResourceExclusiveLite(&shared.resource, FALSE));
        EXPECT(ExIsResourceAcquiredExclusiveLite(&shared.resource));
        elsewhere(try_shared);
        EXPECT(!shared.got);
        elsewhere(try_exclusive);
        EXPECT(!shared.got);
        ExReleaseResourceLite(&shared.resource);
        elsewhere(try_shared);
        EXPECT(!shared.got);
        ExReleaseResourceLite(&shared.resource);
        elsewhere(try_exclusive);
        EXPECT(shared.got);
    }
    RULE("ExAcquireResourceSharedLite function", "others may share it; nobody gets it exclusively") {
        EXPECT(ExAcquireResourceSharedLite(&shared.resource, TRUE));
        EXPECT_EQ(ExIsResourceAcquiredSharedLite(&shared.resource), 1);
        EXPECT(ExAcquireResourceSharedLite(&shared.resource, TRUE));
        EXPECT_EQ(ExIsResourceAcquiredSharedLite(&shared.resource), 2);
        ExReleaseResourceLite(&shared.resource);
        elsewhere(try_shared);
        EXPECT(shared.got);
        elsewhere(try_exclusive);
        EXPECT(!shared.got);
        ExReleaseResourceLite(&shared.resource);
    }
    RULE("ExAcquireResourceSharedLite function", "an exclusive owner that asks for shared access gets exclusive access") {
        ExAcquireResourceExclusiveLite(&shared.resource, TRUE);
        EXPECT(ExAcquireResourceSharedLite(&shared.resource, FALSE));
        EXPECT(ExIsResourceAcquiredExclusiveLite(&shared.resource));
        EXPECT(ExIsResourceAcquiredSharedLite(&shared.resource) != 0);
        ExReleaseResourceLite(&shared.resource);
        ExReleaseResourceLite(&shared.resource);
    }
    RULE("ExConvertExclusiveToSharedLite function", "others may share it at once") {
        ExAcquireResourceExclusiveLite(&shared.resource, TRUE);
        ExConvertExclusiveToSharedLite(&shared.resource);
        EXPECT(!ExIsResourceAcquiredExclusiveLite(&shared.resource));
        elsewhere(try_shared);
        EXPECT(shared.got);
        ExReleaseResourceLite(&shared.resource);
    }
    RULE("ExAcquireResourceSharedLite function", "waits behind who waits for exclusive access; StarveExclusive does not") {
        KeInitializeEvent(&shared.done, NotificationEvent, FALSE);
        ExAcquireResourceSharedLite(&shared.resource, TRUE);
        thread = start_thread(wait_exclusive, NULL);
        for (int i = 0; i < 1000 && !ExGetExclusiveWaiterCount(&shared.resource); i++)
            sleep_us(1000);
        EXPECT_EQ(ExGetExclusiveWaiterCount(&shared.resource), 1);
        elsewhere(try_shared);
        EXPECT(!shared.got);
        EXPECT_EQ(KeReadStateEvent(&shared.done), 0);
        ExReleaseResourceLite(&shared.resource);
        join_thread(thread);
        EXPECT(KeReadStateEvent(&shared.done) != 0);
        EXPECT_EQ(ExGetExclusiveWaiterCount(&shared.resource), 0);
    }
    KeLeaveCriticalRegion();
    RULE("ExEnterCriticalRegionAndAcquireResourceExclusive function", "both at once, and both undone at once") {
        ExEnterCriticalRegionAndAcquireResourceExclusive(&shared.resource);
        EXPECT(KeAreApcsDisabled());
        EXPECT(ExIsResourceAcquiredExclusiveLite(&shared.resource));
        ExReleaseResourceAndLeaveCriticalRegion(&shared.resource);
        EXPECT(!KeAreApcsDisabled());
    }
    RULE("ExDeleteResourceLite function", "STATUS_SUCCESS where nobody holds it") {
        EXPECT_STATUS(ExDeleteResourceLite(&shared.resource), STATUS_SUCCESS);
    }
}

static struct {
    EX_RUNDOWN_REF reference;
    KEVENT done;
} rundown;

static VOID NTAPI run_down(PVOID context)
{
    ExWaitForRundownProtectionRelease(&rundown.reference);
    KeSetEvent(&rundown.done, 0, FALSE);
}

static void rundowns(void)
{
    PKTHREAD thread;

    KeInitializeEvent(&rundown.done, NotificationEvent, FALSE);
    ExInitializeRundownProtection(&rundown.reference);
    RULE("ExAcquireRundownProtection function", "TRUE as long as nobody runs the object down") {
        EXPECT(ExAcquireRundownProtection(&rundown.reference));
        EXPECT(ExAcquireRundownProtectionEx(&rundown.reference, 2));
        ExReleaseRundownProtectionEx(&rundown.reference, 2);
    }
    RULE("ExWaitForRundownProtectionRelease function", "waits for every release; no one acquires it any more") {
        thread = start_thread(run_down, NULL);
        for (int i = 0; i < 1000 && ExAcquireRundownProtection(&rundown.reference); i++) {
            ExReleaseRundownProtection(&rundown.reference);
            sleep_us(1000);
        }
        EXPECT(!ExAcquireRundownProtection(&rundown.reference));
        EXPECT_EQ(KeReadStateEvent(&rundown.done), 0);
        ExReleaseRundownProtection(&rundown.reference);
        join_thread(thread);
        EXPECT(KeReadStateEvent(&rundown.done) != 0);
    }
    RULE("ExReInitializeRundownProtection function", "after ExRundownCompleted it may be acquired again") {
        ExRundownCompleted(&rundown.reference);
        EXPECT(!ExAcquireRundownProtection(&rundown.reference));
        ExReInitializeRundownProtection(&rundown.reference);
        EXPECT(ExAcquireRundownProtection(&rundown.reference));
        ExReleaseRundownProtection(&rundown.reference);
    }
}

static struct {
    WORK_QUEUE_ITEM item;
    KEVENT ran;
    KIRQL irql;
    BOOLEAN in_system_thread;
} work;

static VOID NTAPI work_routine(PVOID context)
{
    work.irql = KeGetCurrentIrql();
    work.in_system_thread = PsIsSystemThread(PsGetCurrentThread());
    KeSetEvent(context, 0, FALSE);
}

static volatile LONG notified;
static PVOID notified_with[3];

static VOID NTAPI on_notify(PVOID context, PVOID first, PVOID second)
{
    notified_with[0] = context;
    notified_with[1] = first;
    notified_with[2] = second;
    notified++;
}

static void services(void)
{
    LARGE_INTEGER soon = after_us(5000000);

    RULE("ExQueueWorkItem function", "the routine runs at PASSIVE_LEVEL in a system thread") {
        static const WORK_QUEUE_TYPE queues[] = { DelayedWorkQueue, CriticalWorkQueue };
        for (int i = 0; i < 2; i++) {
            KeInitializeEvent(&work.ran, NotificationEvent, FALSE);
            work.irql = HIGH_LEVEL;
            ExInitializeWorkItem(&work.item, work_routine, &work.ran);
            ExQueueWorkItem(&work.item, queues[i]);
            EXPECT_STATUS(KeWaitForSingleObject(&work.ran, Executive, KernelMode, FALSE, &soon), STATUS_SUCCESS);
            EXPECT_EQ(work.irql, PASSIVE_LEVEL);
            EXPECT(work.in_system_thread);
        }
    }
    RULE("ExCreateCallback function", "opening what is not there fails; creating it makes it") {
        UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Callback\\ConformanceSuite");
        OBJECT_ATTRIBUTES attributes;
        PCALLBACK_OBJECT callback = NULL;
        PVOID registration;
        InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE, NULL, NULL);
        EXPECT_STATUS(ExCreateCallback(&callback, &attributes, FALSE, TRUE), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(ExCreateCallback(&callback, &attributes, TRUE, TRUE), STATUS_SUCCESS);
        registration = ExRegisterCallback(callback, on_notify, (PVOID)7);
        EXPECT(registration != NULL);
        notified = 0;
        ExNotifyCallback(callback, (PVOID)8, (PVOID)9);
        EXPECT_EQ(notified, 1);
        EXPECT(notified_with[0] == (PVOID)7 && notified_with[1] == (PVOID)8 && notified_with[2] == (PVOID)9);
        ExUnregisterCallback(registration);
        ExNotifyCallback(callback, NULL, NULL);
        EXPECT_EQ(notified, 1);
        ObDereferenceObject(callback);
    }
    RULE("ExRegisterCallback function", "NULL for a second routine where the object allows only one") {
        PCALLBACK_OBJECT callback = NULL;
        OBJECT_ATTRIBUTES attributes;
        PVOID first;
        InitializeObjectAttributes(&attributes, NULL, 0, NULL, NULL);
        EXPECT_STATUS(ExCreateCallback(&callback, &attributes, TRUE, FALSE), STATUS_SUCCESS);
        first = ExRegisterCallback(callback, on_notify, NULL);
        EXPECT(first != NULL);
        EXPECT(ExRegisterCallback(callback, on_notify, NULL) == NULL);
        ExUnregisterCallback(first);
        ObDereferenceObject(callback);
    }
    RULE("ExGetPreviousMode function", "KernelMode in a system thread") {
        EXPECT_EQ(ExGetPreviousMode(), KernelMode);
    }
    RULE("ExUuidCreate function", "each is another one") {
        UUID one, two;
        NTSTATUS status = ExUuidCreate(&one);
        EXPECT(status == STATUS_SUCCESS || status == RPC_NT_UUID_LOCAL_ONLY);
        ExUuidCreate(&two);
        EXPECT(RtlCompareMemory(&one, &two, sizeof(one)) != sizeof(one));
    }
    RULE("ExSystemTimeToLocalTime function", "ExLocalTimeToSystemTime is the inverse") {
        LARGE_INTEGER now, local, back;
        KeQuerySystemTime(&now);
        ExSystemTimeToLocalTime(&now, &local);
        ExLocalTimeToSystemTime(&local, &back);
        EXPECT_EQ(back.QuadPart, now.QuadPart);
    }
    RULE("ExIsProcessorFeaturePresent function", "SSE2 and the time-stamp counter are there on x64") {
        EXPECT(ExIsProcessorFeaturePresent(PF_XMMI64_INSTRUCTIONS_AVAILABLE));
        EXPECT(ExIsProcessorFeaturePresent(PF_RDTSC_INSTRUCTION_AVAILABLE));
        EXPECT(!ExIsProcessorFeaturePresent(PF_MMX_INSTRUCTIONS_AVAILABLE + 1000));
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    pool();
    lists();
    slists();
    lookasides();
    mutexes();
    resources();
    rundowns();
    services();
}

SUITE("Ex")
