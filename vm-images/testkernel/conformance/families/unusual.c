// build: -Wno-multichar -Wno-unused-function
/*
 * What is seldom done and documented all the same: each of these has been taken for a mistake by somebody's checker. The family
 * runs with Driver Verifier off and on.
 */
#include "check.h"

#define TAG 'usnU'

static KSPIN_LOCK locks[2];
static UCHAR room[2 * PAGE_SIZE];

static void spin_locks(void)
{
    KIRQL before;
    KeInitializeSpinLock(&locks[0]);
    KeInitializeSpinLock(&locks[1]);
    RULE("KeReleaseSpinLockFromDpcLevel function", "releases at DISPATCH_LEVEL; the level is lowered apart") {
        KeAcquireSpinLock(&locks[0], &before);
        KeReleaseSpinLockFromDpcLevel(&locks[0]);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(before);
        KeAcquireSpinLock(&locks[0], &before);
        KeReleaseSpinLock(&locks[0], before);
        EXPECT_PASSIVE();
    }
    RULE("KeTryToAcquireSpinLockAtDpcLevel function", "does not wait, so that no order of locks is broken by it") {
        KeAcquireSpinLock(&locks[0], &before);
        KeAcquireSpinLockAtDpcLevel(&locks[1]);
        KeReleaseSpinLockFromDpcLevel(&locks[1]);
        KeReleaseSpinLock(&locks[0], before);
        KeAcquireSpinLock(&locks[1], &before);
        EXPECT(KeTryToAcquireSpinLockAtDpcLevel(&locks[0]));
        KeReleaseSpinLockFromDpcLevel(&locks[0]);
        KeReleaseSpinLock(&locks[1], before);
        EXPECT_PASSIVE();
    }
}

static void lists_of_pages(void)
{
    PMDL list = IoAllocateMdl(room + 100, PAGE_SIZE, FALSE, FALSE, NULL);
    PMDL part = IoAllocateMdl(room + 100, PAGE_SIZE, FALSE, FALSE, NULL);
    if (!list || !part)
        return;
    RULE("MmProbeAndLockPages function", "a list that was unlocked is locked again, and mapped again") {
        for (int round = 0; round < 2; round++) {
            UCHAR *mapped;
            MmProbeAndLockPages(list, KernelMode, IoWriteAccess);
            mapped = MmGetSystemAddressForMdlSafe(list, NormalPagePriority);
            if (!EXPECT(mapped != NULL))
                break;
            mapped[5] = (UCHAR)(7 + round);
            EXPECT_EQ(*(volatile UCHAR *)&room[105], 7 + round);
            EXPECT(MmGetSystemAddressForMdlSafe(list, NormalPagePriority) == mapped);
            MmUnmapLockedPages(mapped, list);
            EXPECT(MmGetSystemAddressForMdlSafe(list, NormalPagePriority) != NULL);
            MmUnlockPages(list);
        }
    }
    RULE("MmPrepareMdlForReuse macro", "a part that was mapped describes another part then") {
        MmProbeAndLockPages(list, KernelMode, IoWriteAccess);
        for (ULONG offset = 0; offset < 256; offset += 128) {
            UCHAR *mapped;
            IoBuildPartialMdl(list, part, room + 100 + offset, 64);
            mapped = MmGetSystemAddressForMdlSafe(part, NormalPagePriority);
            if (!EXPECT(mapped != NULL))
                break;
            mapped[0] = (UCHAR)(offset + 1);
            EXPECT_EQ(*(volatile UCHAR *)&room[100 + offset], (UCHAR)(offset + 1));
            MmPrepareMdlForReuse(part);
        }
        MmUnlockPages(list);
    }
    IoFreeMdl(part);
    IoFreeMdl(list);
}

static IO_REMOVE_LOCK remove_lock;
static KEVENT released;

static VOID NTAPI releases(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    IoReleaseRemoveLock(&remove_lock, context);
    KeSetEvent(&released, 0, FALSE);
}

static void remove_locks(void)
{
    static KDPC dpc;
    KeInitializeEvent(&released, SynchronizationEvent, FALSE);
    IoInitializeRemoveLock(&remove_lock, TAG, 0, 0);
    RULE("IoReleaseRemoveLock macro", "in a DPC; under a tag that was given twice; under none") {
        EXPECT_STATUS(IoAcquireRemoveLock(&remove_lock, room), STATUS_SUCCESS);
        EXPECT_STATUS(IoAcquireRemoveLock(&remove_lock, room), STATUS_SUCCESS);
        EXPECT_STATUS(IoAcquireRemoveLock(&remove_lock, NULL), STATUS_SUCCESS);
        KeInitializeDpc(&dpc, releases, room);
        KeInsertQueueDpc(&dpc, NULL, NULL);
        EXPECT_STATUS(KeWaitForSingleObject(&released, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        KeFlushQueuedDpcs();
        IoReleaseRemoveLock(&remove_lock, NULL);
        IoReleaseRemoveLockAndWait(&remove_lock, room);
        EXPECT_STATUS(IoAcquireRemoveLock(&remove_lock, room), STATUS_DELETE_PENDING);
    }
}

static KTIMER timer;
static KDPC timer_dpc;
static volatile LONG fired;

static VOID NTAPI again(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    LARGE_INTEGER soon = after_us(500);
    if (InterlockedIncrement(&fired) < 5)
        KeSetTimer(&timer, soon, &timer_dpc);
    else
        KeSetEvent(context, 0, FALSE);
}

static void timers(void)
{
    KEVENT done;
    LARGE_INTEGER soon = after_us(500);
    KeInitializeEvent(&done, NotificationEvent, FALSE);
    KeInitializeTimer(&timer);
    KeInitializeDpc(&timer_dpc, again, &done);
    RULE("KeSetTimer function", "sets the timer again in its own DPC") {
        KeSetTimer(&timer, soon, &timer_dpc);
        EXPECT_STATUS(KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        KeFlushQueuedDpcs();
        EXPECT_EQ(fired, 5);
        EXPECT(!KeCancelTimer(&timer));
    }
}

static void pool(void)
{
    RULE("ExAllocatePoolWithTag function", "every byte that was asked for may be used, to the last") {
        for (SIZE_T bytes = 1; bytes < 200; bytes += 33) {
            UCHAR *block = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, TAG);
            if (!EXPECT(block != NULL))
                break;
            RtlFillMemory(block, bytes, 0x5A);
            EXPECT(bytes_are(block, 0x5A, bytes));
            ExFreePoolWithTag(block, TAG);
        }
    }
    RULE("RtlCopyMemory macro", "buffers that touch do not overlap; nothing is copied of no bytes") {
        void *(*volatile copy)(void *, const void *, size_t) = memcpy;
        room[0] = 1, room[63] = 2, room[64] = 3;
        copy(room + 64, room, 64);
        EXPECT(room[64] == 1 && room[127] == 2);
        copy(room + 1, room, 0);
        EXPECT_EQ(room[1], *(volatile UCHAR *)&room[65]);
    }
}

static VOID NTAPI takes_list(PDEVICE_OBJECT device, PIRP irp, PSCATTER_GATHER_LIST list, PVOID context)
{
    *(PSCATTER_GATHER_LIST *)context = list;
}

static void transfer_lists(void)
{
    DEVICE_DESCRIPTION description;
    PDMA_ADAPTER adapter;
    PMDL list = IoAllocateMdl(room, sizeof(room), FALSE, FALSE, NULL);
    static DEVICE_OBJECT device;
    static UCHAR made[1024];
    ULONG registers, size = 0;
    KIRQL before;
    RtlZeroMemory(&description, sizeof(description));
    description.Version = DEVICE_DESCRIPTION_VERSION2;
    description.Master = description.ScatterGather = description.Dma32BitAddresses = TRUE;
    description.InterfaceType = PCIBus;
    description.MaximumLength = 0x10000;
    adapter = IoGetDmaAdapter(NULL, &description, &registers);
    if (!adapter || !list)
        return;
    MmBuildMdlForNonPagedPool(list);
    RULE("PBUILD_SCATTER_GATHER_LIST callback function", "a list in the driver's memory, given back as any other; over and over") {
        EXPECT_STATUS(adapter->DmaOperations->CalculateScatterGatherList(adapter, list, room, sizeof(room), &size, NULL),
                      STATUS_SUCCESS);
        EXPECT(size <= sizeof(made));
        for (int round = 0; round < 3; round++) {
            PSCATTER_GATHER_LIST given = NULL;
            KeRaiseIrql(DISPATCH_LEVEL, &before);
            EXPECT_STATUS(adapter->DmaOperations->BuildScatterGatherList(adapter, &device, list, room, sizeof(room), takes_list,
                                                                         &given, TRUE, made, sizeof(made)),
                          STATUS_SUCCESS);
            EXPECT((PVOID)given == made);
            if (given)
                adapter->DmaOperations->PutScatterGatherList(adapter, given, TRUE);
            KeLowerIrql(before);
        }
    }
    adapter->DmaOperations->PutDmaAdapter(adapter);
    IoFreeMdl(list);
}

static void regions(void)
{
    static ERESOURCE resource;
    RULE("ExAcquireResourceExclusiveLite function", "its owner acquires it again, and shares it with itself") {
        ExInitializeResourceLite(&resource);
        KeEnterCriticalRegion();
        EXPECT(ExAcquireResourceExclusiveLite(&resource, TRUE));
        EXPECT(ExAcquireResourceExclusiveLite(&resource, TRUE));
        EXPECT(ExAcquireResourceSharedLite(&resource, FALSE));
        ExReleaseResourceLite(&resource);
        ExReleaseResourceLite(&resource);
        ExReleaseResourceLite(&resource);
        KeLeaveCriticalRegion();
        EXPECT(!KeAreApcsDisabled());
        ExDeleteResourceLite(&resource);
    }
    RULE("KeEnterCriticalRegion function", "regions nest, of both kinds, and in a mutex") {
        static KMUTEX mutex;
        KeInitializeMutex(&mutex, 0);
        KeEnterCriticalRegion();
        KeEnterGuardedRegion();
        KeEnterCriticalRegion();
        KeLeaveCriticalRegion();
        KeLeaveGuardedRegion();
        EXPECT_STATUS(KeWaitForSingleObject(&mutex, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(KeWaitForSingleObject(&mutex, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        KeReleaseMutex(&mutex, FALSE);
        KeReleaseMutex(&mutex, FALSE);
        KeLeaveCriticalRegion();
        EXPECT(!KeAreApcsDisabled());
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    spin_locks();
    lists_of_pages();
    remove_locks();
    timers();
    pool();
    transfer_lists();
    regions();
}

SUITE("Unusual and documented")
