// build: -O0 -Wl,--disable-dynamicbase
/*
 * A controller-object driver: two devices share one card. StartIo asks for the controller, whose ControllerControl routine is
 * called when no other device has it; the DpcForIsr completes that device's read and lets the controller go.
 */
#include "card.h"

typedef struct _CONTROLLER {
    CARD card;
    KSPIN_LOCK lock;     /* of busy: the DPC runs on two processors at once where the ISR queues it again */
    PDEVICE_OBJECT busy; /* the device that has the controller */
    KDPC dpc;
    ULONG serviced, turns;
} CONTROLLER;

typedef struct _EXTENSION {
    PCONTROLLER_OBJECT controller;
    ULONG number;
} EXTENSION;

static const PCWSTR names[2] = { L"\\Device\\Controller0", L"\\Device\\Controller1" };
static const PCWSTR links[2] = { L"\\DosDevices\\Controller0", L"\\DosDevices\\Controller1" };
static PCONTROLLER_OBJECT controller_object;
static PDEVICE_OBJECT devices[2];

static CONTROLLER *the_controller(PDEVICE_OBJECT device)
{
    EXTENSION *extension = device->DeviceExtension;
    return extension->controller->ControllerExtension;
}

static BOOLEAN NTAPI isr(PKINTERRUPT interrupt, PVOID context)
{
    CONTROLLER *controller = context;

    if (!card_acknowledge(&controller->card))
        return FALSE;
    controller->serviced++;
    KeInsertQueueDpc(&controller->dpc, NULL, NULL);
    return TRUE;
}

static BOOLEAN NTAPI take_one(PVOID context)
{
    PIRP irp = context;
    CONTROLLER *controller = the_controller(IoGetCurrentIrpStackLocation(irp)->DeviceObject);

    if (!card_read(&controller->card, CARD_FIFO_LEVEL))
        return FALSE;
    *(ULONG *)irp->AssociatedIrp.SystemBuffer = card_read(&controller->card, CARD_FIFO_DATA);
    return TRUE;
}

/* Serves whoever has the controller. At DISPATCH_LEVEL. */
static VOID serve(CONTROLLER *controller)
{
    PDEVICE_OBJECT device;
    PIRP irp;

    KeAcquireSpinLockAtDpcLevel(&controller->lock);
    device = controller->busy;
    irp = device ? device->CurrentIrp : NULL;
    if (!irp || !KeSynchronizeExecution(controller->card.interrupt, take_one, irp)) {
        KeReleaseSpinLockFromDpcLevel(&controller->lock);
        return;
    }
    controller->busy = NULL;
    KeReleaseSpinLockFromDpcLevel(&controller->lock);
    IoFreeController(((EXTENSION *)device->DeviceExtension)->controller);
    complete(irp, STATUS_SUCCESS, sizeof(ULONG));
    IoStartNextPacket(device, FALSE);
}

static VOID NTAPI dpc_routine(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    serve(context);
}

static IO_ALLOCATION_ACTION NTAPI controller_control(PDEVICE_OBJECT device, PIRP irp, PVOID base, PVOID context)
{
    CONTROLLER *controller = context;

    controller->turns++;
    KeAcquireSpinLockAtDpcLevel(&controller->lock);
    controller->busy = device;
    KeReleaseSpinLockFromDpcLevel(&controller->lock);
    /* A sample may be there already; its DPC serves whoever has the controller then. */
    KeInsertQueueDpc(&controller->dpc, NULL, NULL);
    return KeepObject;
}

static VOID NTAPI start_io(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;

    IoAllocateController(extension->controller, device, controller_control, the_controller(device));
}

static NTSTATUS NTAPI read(PDEVICE_OBJECT device, PIRP irp)
{
    if (IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length < sizeof(ULONG))
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    IoMarkIrpPending(irp);
    IoStartPacket(device, irp, NULL, NULL);
    return STATUS_PENDING;
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    CONTROLLER *controller = controller_object->ControllerExtension;

    card_disconnect(&controller->card);
    KeRemoveQueueDpc(&controller->dpc);
    KeFlushQueuedDpcs();
    DbgPrint("controller: %u interrupts, %u turns\n", controller->serviced, controller->turns);
    for (int i = 0; i < 2; i++)
        delete_device(devices[i], links[i]);
    IoDeleteController(controller_object);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    CONTROLLER *controller;
    CARD card = { 0 };
    NTSTATUS status = card_find(&card, path);
    int made = 0;

    if (!NT_SUCCESS(status))
        return status;
    controller_object = IoCreateController(sizeof(CONTROLLER));
    if (!controller_object)
        return STATUS_INSUFFICIENT_RESOURCES;
    controller = controller_object->ControllerExtension;
    controller->card = card;
    KeInitializeSpinLock(&controller->lock);
    KeInitializeDpc(&controller->dpc, dpc_routine, controller);
    for (; made < 2; made++) {
        EXTENSION *extension;
        status = create_device(driver, names[made], links[made], sizeof(EXTENSION), &devices[made]);
        if (!NT_SUCCESS(status))
            break;
        extension = devices[made]->DeviceExtension;
        extension->controller = controller_object;
        extension->number = (ULONG)made;
        devices[made]->Flags |= DO_BUFFERED_IO;
    }
    if (NT_SUCCESS(status))
        status = card_connect(&controller->card, isr, controller);
    if (!NT_SUCCESS(status)) {
        while (made--)
            delete_device(devices[made], links[made]);
        IoDeleteController(controller_object);
        return status;
    }
    driver->MajorFunction[IRP_MJ_CREATE] = succeed;
    driver->MajorFunction[IRP_MJ_CLOSE] = succeed;
    driver->MajorFunction[IRP_MJ_CLEANUP] = succeed;
    driver->MajorFunction[IRP_MJ_READ] = read;
    driver->DriverStartIo = start_io;
    driver->DriverUnload = unload;
    card_enable(&controller->card);
    return STATUS_SUCCESS;
}
