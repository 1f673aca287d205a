/*
 * A DMA driver with a common buffer. The card masters no bus, so its DPC stands in for one: it puts samples into the common
 * buffer, by the buffer's system address. What a driver of a bus master does is all here: an adapter by description, a common
 * buffer in the device's reach, a scatter/gather list for each read, given back before the read completes.
 */
#include "card.h"

#define LINK L"\\DosDevices\\Dma"
#define ROOM 1024

typedef struct _EXTENSION {
    CARD card;
    PDMA_ADAPTER adapter;
    ULONG map_registers;
    ULONG *common; /* samples, written by "the device" */
    PHYSICAL_ADDRESS logical;
    ULONG written, taken;
    KDPC dpc;
    KSPIN_LOCK lock;
    PIRP waiting;
    PSCATTER_GATHER_LIST list;
    LONG serviced, lists;
    BOOLEAN wrong;
} EXTENSION;

static BOOLEAN NTAPI isr(PKINTERRUPT interrupt, PVOID context)
{
    EXTENSION *extension = context;

    if (!card_acknowledge(&extension->card))
        return FALSE;
    extension->serviced++;
    while (card_read(&extension->card, CARD_FIFO_LEVEL)) {
        ULONG sample = card_read(&extension->card, CARD_FIFO_DATA);
        if (extension->written - extension->taken < ROOM)
            extension->common[extension->written++ % ROOM] = sample;
    }
    KeInsertQueueDpc(&extension->dpc, NULL, NULL);
    return TRUE;
}

struct move {
    EXTENSION *extension;
    ULONG *to;
    ULONG room, moved;
};

static BOOLEAN NTAPI move_samples(PVOID context)
{
    struct move *move = context;
    EXTENSION *extension = move->extension;

    while (move->moved < move->room && extension->taken != extension->written)
        move->to[move->moved++] = extension->common[extension->taken++ % ROOM];
    return move->moved != 0;
}

/* Completes the read that waits, where there is anything for it. At DISPATCH_LEVEL. */
static VOID answer(EXTENSION *extension)
{
    PSCATTER_GATHER_LIST list;
    PIRP irp;

    KeAcquireSpinLockAtDpcLevel(&extension->lock);
    irp = extension->waiting;
    if (irp) {
        struct move move = { extension, MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority),
                             MmGetMdlByteCount(irp->MdlAddress) / sizeof(ULONG), 0 };
        if (move.to && KeSynchronizeExecution(extension->card.interrupt, move_samples, &move) &&
            IoSetCancelRoutine(irp, NULL)) {
            list = extension->list;
            extension->waiting = NULL;
            extension->list = NULL;
            KeReleaseSpinLockFromDpcLevel(&extension->lock);
            extension->adapter->DmaOperations->PutScatterGatherList(extension->adapter, list, FALSE);
            complete(irp, STATUS_SUCCESS, move.moved * sizeof(ULONG));
            return;
        }
    }
    KeReleaseSpinLockFromDpcLevel(&extension->lock);
}

static VOID NTAPI dpc_routine(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    answer(context);
}

static VOID NTAPI cancel(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;
    PSCATTER_GATHER_LIST list;
    KIRQL irql;

    IoReleaseCancelSpinLock(irp->CancelIrql);
    KeAcquireSpinLock(&extension->lock, &irql);
    list = extension->list;
    extension->waiting = NULL;
    extension->list = NULL;
    KeReleaseSpinLockFromDpcLevel(&extension->lock);
    extension->adapter->DmaOperations->PutScatterGatherList(extension->adapter, list, FALSE);
    KeLowerIrql(irql);
    complete(irp, STATUS_CANCELLED, 0);
}

/* The read's buffer as the device would see it. At DISPATCH_LEVEL. */
static VOID NTAPI have_list(PDEVICE_OBJECT device, PIRP current, PSCATTER_GATHER_LIST list, PVOID context)
{
    EXTENSION *extension = device->DeviceExtension;
    PIRP irp = context; /* the other is the device's current IRP, which only StartIo sets */
    ULONG length = 0;

    for (ULONG i = 0; i < list->NumberOfElements; i++)
        length += list->Elements[i].Length;
    extension->lists++;
    if (length != MmGetMdlByteCount(irp->MdlAddress))
        extension->wrong = TRUE;
    KeAcquireSpinLockAtDpcLevel(&extension->lock);
    extension->waiting = irp;
    extension->list = list;
    IoSetCancelRoutine(irp, cancel);
    KeReleaseSpinLockFromDpcLevel(&extension->lock);
    answer(extension);
}

static NTSTATUS NTAPI read(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;
    NTSTATUS status;
    KIRQL irql;

    if (!irp->MdlAddress || MmGetMdlByteCount(irp->MdlAddress) < sizeof(ULONG))
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    if (extension->waiting)
        return complete(irp, STATUS_DEVICE_BUSY, 0);
    IoMarkIrpPending(irp);
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    status = extension->adapter->DmaOperations->GetScatterGatherList(
        extension->adapter, device, irp->MdlAddress, MmGetMdlVirtualAddress(irp->MdlAddress),
        MmGetMdlByteCount(irp->MdlAddress), have_list, irp, FALSE);
    KeLowerIrql(irql);
    if (!NT_SUCCESS(status))
        complete(irp, status, 0);
    return STATUS_PENDING;
}

static VOID release_dma(EXTENSION *extension)
{
    PDMA_OPERATIONS operations = extension->adapter->DmaOperations;

    if (extension->common)
        operations->FreeCommonBuffer(extension->adapter, ROOM * sizeof(ULONG), extension->logical, extension->common,
                                     FALSE);
    operations->PutDmaAdapter(extension->adapter);
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    PDEVICE_OBJECT device = driver->DeviceObject;
    EXTENSION *extension = device->DeviceExtension;

    card_disconnect(&extension->card);
    KeRemoveQueueDpc(&extension->dpc);
    KeFlushQueuedDpcs();
    release_dma(extension);
    DbgPrint("dma: %d interrupts, %d lists%s\n", extension->serviced, extension->lists,
             extension->wrong ? ", a list of the wrong length" : "");
    delete_device(device, LINK);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    DEVICE_DESCRIPTION description = { .Version = DEVICE_DESCRIPTION_VERSION, .Master = TRUE, .ScatterGather = TRUE,
                                       .Dma32BitAddresses = TRUE, .InterfaceType = PCIBus, .MaximumLength = 65536 };
    PDEVICE_OBJECT device;
    EXTENSION *extension;
    CARD card = { 0 };
    NTSTATUS status = card_find(&card, path);

    if (NT_SUCCESS(status))
        status = create_device(driver, L"\\Device\\Dma", LINK, sizeof(EXTENSION), &device);
    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    extension->card = card;
    device->Flags |= DO_DIRECT_IO;
    KeInitializeSpinLock(&extension->lock);
    KeInitializeDpc(&extension->dpc, dpc_routine, extension);
    extension->adapter = IoGetDmaAdapter(device, &description, &extension->map_registers);
    if (!extension->adapter) {
        delete_device(device, LINK);
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    extension->common = extension->adapter->DmaOperations->AllocateCommonBuffer(
        extension->adapter, ROOM * sizeof(ULONG), &extension->logical, FALSE);
    if (!extension->common || extension->logical.QuadPart >> 32 ||
        extension->logical.QuadPart != MmGetPhysicalAddress(extension->common).QuadPart)
        status = STATUS_INSUFFICIENT_RESOURCES;
    if (NT_SUCCESS(status))
        status = card_connect(&extension->card, isr, extension);
    if (!NT_SUCCESS(status)) {
        release_dma(extension);
        delete_device(device, LINK);
        return status;
    }
    driver->MajorFunction[IRP_MJ_CREATE] = succeed;
    driver->MajorFunction[IRP_MJ_CLOSE] = succeed;
    driver->MajorFunction[IRP_MJ_CLEANUP] = succeed;
    driver->MajorFunction[IRP_MJ_READ] = read;
    driver->DriverUnload = unload;
    card_enable(&extension->card);
    return STATUS_SUCCESS;
}
