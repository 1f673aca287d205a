// build: -Wno-multichar -Wno-array-bounds -Wno-stringop-overflow -Wno-use-after-free -Wno-overlapping -Wno-restrict -Wno-unused-function
/*
 * A driver that breaks one documented rule at a time, the one that the REG_SZ value Deed under its Parameters key names: in
 * DriverEntry, or, for what is about what a driver leaves, by unloading. harness/tests/vm/violations.rs has the stop that each is,
 * with Driver Verifier or without.
 */
#include "check.h"

#define TAG 'loiV'

typedef struct {
    const WCHAR *name;
    void (*deed)(void);
} DEED;

static PDRIVER_OBJECT me;
static UCHAR room[4096];
static KIRQL before;

static PMDL list_of(PVOID address, ULONG bytes)
{
    return IoAllocateMdl(address, bytes, FALSE, FALSE, NULL);
}

static void unlock_never_locked(void)
{
    MmUnlockPages(list_of(room, 64));
}

static void unlock_nonpaged(void)
{
    PMDL list = list_of(room, 64);
    MmBuildMdlForNonPagedPool(list);
    MmUnlockPages(list);
}

static void lock_nonpaged(void)
{
    PMDL list = list_of(room, 64);
    MmBuildMdlForNonPagedPool(list);
    MmProbeAndLockPages(list, KernelMode, IoReadAccess);
}

static PMDL locked(void)
{
    PMDL list = list_of(room, 64);
    MmProbeAndLockPages(list, KernelMode, IoWriteAccess);
    return list;
}

static void map_and_bug_check(void)
{
    MmMapLockedPagesSpecifyCache(locked(), KernelMode, MmCached, NULL, TRUE, NormalPagePriority);
}

static void map_without_a_word(void)
{
    MmMapLockedPages(locked(), KernelMode);
}

static void map_twice(void)
{
    PMDL list = locked();
    MmMapLockedPagesSpecifyCache(list, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    MmMapLockedPagesSpecifyCache(list, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
}

static void map_unlocked(void)
{
    MmMapLockedPagesSpecifyCache(list_of(room, 64), KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
}

static void free_mapped(void)
{
    PMDL list = locked();
    MmMapLockedPagesSpecifyCache(list, KernelMode, MmCached, NULL, FALSE, NormalPagePriority);
    IoFreeMdl(list);
}

static void unlock_partial(void)
{
    PMDL whole = locked(), part = list_of(room, 64);
    IoBuildPartialMdl(whole, part, room, 32);
    MmUnlockPages(part);
}

static void build_of_paged(void)
{
    MmBuildMdlForNonPagedPool(list_of(ExAllocatePoolWithTag(PagedPool, 64, TAG), 64));
}

static void unmap_unmapped(void)
{
    MmUnmapLockedPages(room, locked());
}

static void unmap_io_twice(void)
{
    PHYSICAL_ADDRESS local_apic = { .QuadPart = 0xFEE00000 };
    PVOID mapped = MmMapIoSpace(local_apic, 0x1000, MmNonCached);
    MmUnmapIoSpace(mapped, 0x1000);
    MmUnmapIoSpace(mapped, 0x1000);
}

static void unmap_io_by_half(void)
{
    PHYSICAL_ADDRESS io_apic = { .QuadPart = 0xFEC00000 };
    MmUnmapIoSpace(MmMapIoSpace(io_apic, 0x2000, MmNonCached), 0x1000);
}

static void free_contiguous_of_nothing(void)
{
    MmFreeContiguousMemory(room);
}

static void event_in_paged_pool(void)
{
    KeInitializeEvent(ExAllocatePoolWithTag(PagedPool, sizeof(KEVENT), TAG), NotificationEvent, FALSE);
}

static VOID NTAPI work(PVOID context)
{
    (void)context;
}

static void work_item_in_paged_pool(void)
{
    PWORK_QUEUE_ITEM item = ExAllocatePoolWithTag(PagedPool, sizeof(*item), TAG);
    ExInitializeWorkItem(item, work, NULL);
    ExQueueWorkItem(item, DelayedWorkQueue);
}

static void work_for_no_queue(void)
{
    static WORK_QUEUE_ITEM item;
    ExInitializeWorkItem(&item, work, NULL);
    ExQueueWorkItem(&item, (WORK_QUEUE_TYPE)20);
}

static void work_of_no_routine(void)
{
    static WORK_QUEUE_ITEM item;
    ExInitializeWorkItem(&item, NULL, NULL);
    ExQueueWorkItem(&item, DelayedWorkQueue);
}

static void reference_by_bad_handle(void)
{
    PVOID object;
    ObReferenceObjectByHandle((HANDLE)(ULONG_PTR)0x1234, 0, NULL, KernelMode, &object, NULL);
}

static void reference_by_null_handle(void)
{
    PVOID object;
    ObReferenceObjectByHandle(NULL, 0, NULL, KernelMode, &object, NULL);
}

static void dereference_nothing(void)
{
    ObDereferenceObject(room);
}

static void close_twice(void)
{
    HANDLE event;
    OBJECT_ATTRIBUTES attributes;
    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    ZwCreateEvent(&event, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE);
    ZwClose(event);
    ZwClose(event);
}

static void wait_in_user_mode_on_the_stack(void)
{
    KEVENT event;
    KeInitializeEvent(&event, NotificationEvent, TRUE);
    KeWaitForSingleObject(&event, Executive, UserMode, FALSE, NULL);
}

static void copy_over_itself(void)
{
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;
    copy(room + 8, room, 64);
}

static NPAGED_LOOKASIDE_LIST lookaside;

static void tiny_lookaside(void)
{
    ExInitializeNPagedLookasideList(&lookaside, NULL, NULL, 0, 4, TAG, 0);
}

static IO_REMOVE_LOCK remove_lock;

static void release_remove_lock_otherwise(void)
{
    IoInitializeRemoveLock(&remove_lock, TAG, 0, 0);
    IoAcquireRemoveLock(&remove_lock, room);
    IoReleaseRemoveLock(&remove_lock, room + 1);
}

static void wait_for_remove_lock_otherwise(void)
{
    IoInitializeRemoveLock(&remove_lock, TAG, 0, 0);
    IoAcquireRemoveLock(&remove_lock, room);
    IoReleaseRemoveLockAndWait(&remove_lock, room + 1);
}

static void remove_lock_again(void)
{
    IoInitializeRemoveLock(&remove_lock, TAG, 0, 0);
    IoInitializeRemoveLock(&remove_lock, TAG, 0, 0);
}

static VOID NTAPI enters_a_region(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    KeEnterCriticalRegion();
}

static void dpc_enters_a_region(void)
{
    static KDPC dpc;
    KeInitializeDpc(&dpc, enters_a_region, NULL);
    KeInsertQueueDpc(&dpc, NULL, NULL);
    sleep_us(100000);
}

static void leave_region_twice(void)
{
    KeLeaveCriticalRegion();
}

static void leave_guarded_region_twice(void)
{
    KeLeaveGuardedRegion();
}

static KSPIN_LOCK lock;

static void release_spin_lock_twice(void)
{
    KeAcquireSpinLock(&lock, &before);
    KeReleaseSpinLock(&lock, before);
    KeRaiseIrql(DISPATCH_LEVEL, &before);
    KeReleaseSpinLock(&lock, before);
}

static void acquire_spin_lock_twice(void)
{
    KeAcquireSpinLock(&lock, &before);
    KeAcquireSpinLock(&lock, &before);
}

static void acquire_queued_lock_twice(void)
{
    KLOCK_QUEUE_HANDLE first, second;
    KeAcquireInStackQueuedSpinLock(&lock, &first);
    KeAcquireInStackQueuedSpinLock(&lock, &second);
}

static void release_queued_lock_twice(void)
{
    KLOCK_QUEUE_HANDLE handle;
    KeAcquireInStackQueuedSpinLock(&lock, &handle);
    KeReleaseInStackQueuedSpinLock(&handle);
    KeRaiseIrql(DISPATCH_LEVEL, &before);
    KeReleaseInStackQueuedSpinLock(&handle);
}

static void leave_pool(void)
{
    ExAllocatePoolWithTag(NonPagedPool, 32, TAG);
}

static void overrun_pool(void)
{
    UCHAR *block = ExAllocatePoolWithTag(NonPagedPool, 24, TAG);
    block[24] = 0x41;
    ExFreePoolWithTag(block, TAG);
}

static void free_pool_twice(void)
{
    PVOID block = ExAllocatePoolWithTag(NonPagedPool, 24, TAG);
    ExFreePoolWithTag(block, TAG);
    ExFreePoolWithTag(block, TAG);
}

static void free_a_user_address(void)
{
    ExFreePool((PVOID)(ULONG_PTR)0x10000);
}

/* HAL.dll has it; 64-bit headers do not. */
__declspec(dllimport) ULONG NTAPI HalGetInterruptVector(INTERFACE_TYPE type, ULONG bus, ULONG level, ULONG vector,
                                                        PKIRQL irql, PKAFFINITY affinity);

static BOOLEAN NTAPI nobodys(PKINTERRUPT interrupt, PVOID context)
{
    return FALSE;
}

static void disconnect_twice(void)
{
    PKINTERRUPT interrupt;
    KAFFINITY processors;
    ULONG vector = HalGetInterruptVector(Isa, 0, 11, 11, &before, &processors);
    IoConnectInterrupt(&interrupt, nobodys, NULL, NULL, vector, before, before, Latched, FALSE, processors, FALSE);
    IoDisconnectInterrupt(interrupt);
    IoDisconnectInterrupt(interrupt);
}

static void disconnect_nothing(void)
{
    IoDisconnectInterrupt(NULL);
}

static PDMA_ADAPTER adapter;

static void with_adapter(void)
{
    DEVICE_DESCRIPTION description;
    ULONG registers;
    RtlZeroMemory(&description, sizeof(description));
    description.Version = DEVICE_DESCRIPTION_VERSION2;
    description.Master = description.ScatterGather = description.Dma32BitAddresses = TRUE;
    description.InterfaceType = PCIBus;
    description.MaximumLength = 0x10000;
    adapter = IoGetDmaAdapter(NULL, &description, &registers);
}

static PVOID map_base;

static IO_ALLOCATION_ACTION NTAPI keeps_it(PDEVICE_OBJECT device, PIRP irp, PVOID base, PVOID context)
{
    map_base = base;
    return KeepObject;
}

static PMDL channel_and_list(void)
{
    static DEVICE_OBJECT device;
    PMDL list = list_of(room, 512);
    with_adapter();
    MmBuildMdlForNonPagedPool(list);
    KeRaiseIrql(DISPATCH_LEVEL, &before);
    adapter->DmaOperations->AllocateAdapterChannel(adapter, &device, 2, keeps_it, NULL);
    return list;
}

static void map_for_dma(PMDL list)
{
    ULONG length = 256;
    adapter->DmaOperations->MapTransfer(adapter, list, map_base, room, &length, TRUE);
}

static void dma_not_flushed(void)
{
    map_for_dma(channel_and_list());
    adapter->DmaOperations->FreeAdapterChannel(adapter);
}

static void dma_mapped_twice(void)
{
    PMDL list = channel_and_list();
    map_for_dma(list);
    map_for_dma(list);
}

static void dma_flushed_only(void)
{
    PMDL list = channel_and_list();
    adapter->DmaOperations->FlushAdapterBuffers(adapter, list, map_base, room, 256, TRUE);
}

static void dma_of_unlocked(void)
{
    PMDL other = list_of(room, 512);
    channel_and_list();
    map_for_dma(other);
}

static void dma_outside(void)
{
    ULONG length = 256;
    PMDL list = channel_and_list();
    adapter->DmaOperations->MapTransfer(adapter, list, map_base, room + 512, &length, TRUE);
}

static void zw_at_apc_level(void)
{
    KeRaiseIrql(APC_LEVEL, &before);
    ZwDeleteFile(NULL);
}

static NTSTATUS NTAPI never_called(PDEVICE_OBJECT device, PIRP irp)
{
    return STATUS_NOT_SUPPORTED;
}

static void user_address_in_packet(void)
{
    PDEVICE_OBJECT device;
    PIRP irp = IoAllocateIrp(2, FALSE);
    me->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = never_called;
    IoCreateDevice(me, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_INTERNAL_DEVICE_CONTROL;
    irp->UserBuffer = (PVOID)(ULONG_PTR)0x7ff612345000;
    IoCallDriver(device, irp);
}

static const DEED deeds[] = {
    { L"dma-not-flushed", dma_not_flushed },
    { L"dma-mapped-twice", dma_mapped_twice },
    { L"dma-flushed-only", dma_flushed_only },
    { L"dma-of-unlocked", dma_of_unlocked },
    { L"dma-outside", dma_outside },
    { L"dma-adapter-left", with_adapter },
    { L"zw-at-apc-level", zw_at_apc_level },
    { L"user-address-in-packet", user_address_in_packet },
    { L"unlock-never-locked", unlock_never_locked },
    { L"unlock-nonpaged", unlock_nonpaged },
    { L"lock-nonpaged", lock_nonpaged },
    { L"map-and-bug-check", map_and_bug_check },
    { L"map-without-a-word", map_without_a_word },
    { L"map-twice", map_twice },
    { L"map-unlocked", map_unlocked },
    { L"free-mapped", free_mapped },
    { L"unlock-partial", unlock_partial },
    { L"build-of-paged", build_of_paged },
    { L"unmap-unmapped", unmap_unmapped },
    { L"unmap-io-twice", unmap_io_twice },
    { L"unmap-io-by-half", unmap_io_by_half },
    { L"free-contiguous-of-nothing", free_contiguous_of_nothing },
    { L"event-in-paged-pool", event_in_paged_pool },
    { L"work-item-in-paged-pool", work_item_in_paged_pool },
    { L"work-for-no-queue", work_for_no_queue },
    { L"work-of-no-routine", work_of_no_routine },
    { L"reference-by-bad-handle", reference_by_bad_handle },
    { L"reference-by-null-handle", reference_by_null_handle },
    { L"dereference-nothing", dereference_nothing },
    { L"close-twice", close_twice },
    { L"wait-in-user-mode-on-the-stack", wait_in_user_mode_on_the_stack },
    { L"copy-over-itself", copy_over_itself },
    { L"tiny-lookaside", tiny_lookaside },
    { L"release-remove-lock-otherwise", release_remove_lock_otherwise },
    { L"wait-for-remove-lock-otherwise", wait_for_remove_lock_otherwise },
    { L"remove-lock-again", remove_lock_again },
    { L"dpc-enters-a-region", dpc_enters_a_region },
    { L"leave-region-twice", leave_region_twice },
    { L"leave-guarded-region-twice", leave_guarded_region_twice },
    { L"release-spin-lock-twice", release_spin_lock_twice },
    { L"acquire-spin-lock-twice", acquire_spin_lock_twice },
    { L"acquire-queued-lock-twice", acquire_queued_lock_twice },
    { L"release-queued-lock-twice", release_queued_lock_twice },
    { L"disconnect-twice", disconnect_twice },
    { L"disconnect-nothing", disconnect_nothing },
    { L"leave-pool", leave_pool },
    { L"overrun-pool", overrun_pool },
    { L"free-pool-twice", free_pool_twice },
    { L"free-a-user-address", free_a_user_address },
};

static WCHAR deed_text[64];

static int is(const WCHAR *deed)
{
    const WCHAR *text = deed_text;
    while (*deed && *deed == *text)
        deed++, text++;
    return *deed == *text;
}

static NTSTATUS read_deed(PUNICODE_STRING path)
{
    static WCHAR key[256];
    UNICODE_STRING name = { 0, sizeof(key) - sizeof(WCHAR), key };
    UNICODE_STRING value = { 0, sizeof(deed_text) - sizeof(WCHAR), deed_text };
    RTL_QUERY_REGISTRY_TABLE table[2];
    RtlZeroMemory(table, sizeof(table));
    RtlAppendUnicodeStringToString(&name, path);
    RtlAppendUnicodeToString(&name, L"\\Parameters");
    table[0].Flags = RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED;
    table[0].Name = L"Deed";
    table[0].EntryContext = &value;
    return RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    me = driver;
    KeInitializeSpinLock(&lock);
    if (!NT_SUCCESS(read_deed(path)))
        return;
    for (ULONG index = 0; index < RTL_NUMBER_OF(deeds); index++)
        if (is(deeds[index].name))
            deeds[index].deed();
}

SUITE("Violations")
