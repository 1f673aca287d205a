/*
 * A StartIo driver. Reads queue up in the device queue; StartIo takes one at a time; the DpcForIsr completes it with what the
 * card has sampled; a cancel routine takes a read out of the queue, or out of the card's hands.
 */
#include "card.h"

#define LINK L"\\DosDevices\\StartIo"

typedef struct _EXTENSION {
    CARD card;
    ULONG serviced;
    /* The read that the card works for; under the cancel spin lock. CurrentIrp outlives it: it stays until IoStartNextPacket. */
    PIRP active;
} EXTENSION;

static BOOLEAN NTAPI isr(PKINTERRUPT interrupt, PVOID context)
{
    PDEVICE_OBJECT device = context;
    EXTENSION *extension = device->DeviceExtension;

    if (!card_acknowledge(&extension->card))
        return FALSE;
    extension->serviced++;
    IoRequestDpc(device, device->CurrentIrp, extension);
    return TRUE;
}

/* Takes samples out of the card while the ISR keeps still. */
static BOOLEAN NTAPI drain(PVOID context)
{
    PIRP irp = context;
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(irp);
    EXTENSION *extension = stack->DeviceObject->DeviceExtension;
    ULONG *to = irp->AssociatedIrp.SystemBuffer;
    ULONG room = stack->Parameters.Read.Length / sizeof(ULONG), taken = 0;

    while (taken < room && card_read(&extension->card, CARD_FIFO_LEVEL))
        to[taken++] = card_read(&extension->card, CARD_FIFO_DATA);
    irp->IoStatus.Information = taken * sizeof(ULONG);
    return taken != 0;
}

/* Completes the active read if the card has something for it. At DISPATCH_LEVEL, and on two processors at once: StartIo and the DPC. */
static VOID finish_active(PDEVICE_OBJECT device)
{
    EXTENSION *extension = device->DeviceExtension;
    PIRP irp;
    KIRQL irql;

    IoAcquireCancelSpinLock(&irql);
    irp = extension->active;
    if (!irp || !KeSynchronizeExecution(extension->card.interrupt, drain, irp) || !IoSetCancelRoutine(irp, NULL)) {
        IoReleaseCancelSpinLock(irql);
        return;
    }
    extension->active = NULL;
    IoReleaseCancelSpinLock(irql);
    complete(irp, STATUS_SUCCESS, irp->IoStatus.Information);
    IoStartNextPacket(device, TRUE);
}

static VOID NTAPI dpc_for_isr(PKDPC dpc, PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    finish_active(device);
}

static VOID NTAPI cancel(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;

    if (irp == device->CurrentIrp) {
        extension->active = NULL;
        IoReleaseCancelSpinLock(irp->CancelIrql);
        complete(irp, STATUS_CANCELLED, 0);
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        IoStartNextPacket(device, TRUE);
        KeLowerIrql(irql);
        return;
    }
    KeRemoveEntryDeviceQueue(&device->DeviceQueue, &irp->Tail.Overlay.DeviceQueueEntry);
    IoReleaseCancelSpinLock(irp->CancelIrql);
    complete(irp, STATUS_CANCELLED, 0);
}

static VOID NTAPI start_io(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;
    KIRQL irql;

    /* Cancelled on the way here, it is gone, and the next one's StartIo has run or will. */
    IoAcquireCancelSpinLock(&irql);
    if (irp == device->CurrentIrp)
        extension->active = irp;
    IoReleaseCancelSpinLock(irql);
    finish_active(device);
}

static NTSTATUS NTAPI read(PDEVICE_OBJECT device, PIRP irp)
{
    if (IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length < sizeof(ULONG))
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    IoMarkIrpPending(irp);
    IoStartPacket(device, irp, NULL, cancel);
    return STATUS_PENDING;
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    PDEVICE_OBJECT device = driver->DeviceObject;
    EXTENSION *extension = device->DeviceExtension;

    card_disconnect(&extension->card);
    KeRemoveQueueDpc(&device->Dpc);
    KeFlushQueuedDpcs();
    DbgPrint("start_io: %u interrupts\n", extension->serviced);
    delete_device(device, LINK);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    PDEVICE_OBJECT device;
    EXTENSION *extension;
    CARD card = { 0 };
    NTSTATUS status = card_find(&card, path);

    if (NT_SUCCESS(status))
        status = create_device(driver, L"\\Device\\StartIo", LINK, sizeof(EXTENSION), &device);
    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    extension->card = card;
    device->Flags |= DO_BUFFERED_IO;
    IoInitializeDpcRequest(device, dpc_for_isr);
    status = card_connect(&extension->card, isr, device);
    if (!NT_SUCCESS(status)) {
        delete_device(device, LINK);
        return status;
    }
    driver->MajorFunction[IRP_MJ_CREATE] = succeed;
    driver->MajorFunction[IRP_MJ_CLOSE] = succeed;
    driver->MajorFunction[IRP_MJ_CLEANUP] = succeed;
    driver->MajorFunction[IRP_MJ_READ] = read;
    driver->DriverStartIo = start_io;
    driver->DriverUnload = unload;
    card_enable(&extension->card);
    return STATUS_SUCCESS;
}
