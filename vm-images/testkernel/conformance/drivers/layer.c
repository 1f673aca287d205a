// build: -shared
/*
 * The upper half of a layered pair: attaches to the StartIo driver's device, copies each read down with a completion routine
 * of its own, and turns the samples round on their way up. Loaded after start_io.c, unloaded before it.
 */
#include "card.h"

#define LINK L"\\DosDevices\\Layer"

typedef struct _EXTENSION {
    PDEVICE_OBJECT lower;
    PFILE_OBJECT file;
    LONG passed, completed;
} EXTENSION;

static NTSTATUS NTAPI on_completion(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    EXTENSION *extension = context;
    ULONG *samples = irp->AssociatedIrp.SystemBuffer;

    if (irp->PendingReturned)
        IoMarkIrpPending(irp);
    if (NT_SUCCESS(irp->IoStatus.Status))
        for (ULONG i = 0; i < irp->IoStatus.Information / sizeof(ULONG); i++)
            samples[i] = ~samples[i];
    InterlockedIncrement(&extension->completed);
    return STATUS_CONTINUE_COMPLETION;
}

static NTSTATUS NTAPI pass(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;

    InterlockedIncrement(&extension->passed);
    if (IoGetCurrentIrpStackLocation(irp)->MajorFunction != IRP_MJ_READ) {
        IoSkipCurrentIrpStackLocation(irp);
        return IoCallDriver(extension->lower, irp);
    }
    IoCopyCurrentIrpStackLocationToNext(irp);
    IoSetCompletionRoutine(irp, on_completion, extension, TRUE, TRUE, TRUE);
    return IoCallDriver(extension->lower, irp);
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    PDEVICE_OBJECT device = driver->DeviceObject;
    EXTENSION *extension = device->DeviceExtension;

    IoDetachDevice(extension->lower);
    ObDereferenceObject(extension->file);
    DbgPrint("layer: %d passed, %d completed\n", extension->passed, extension->completed);
    IoDeleteDevice(device);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    UNICODE_STRING below = RTL_CONSTANT_STRING(L"\\Device\\StartIo");
    PDEVICE_OBJECT device, top;
    EXTENSION *extension;
    NTSTATUS status;

    for (int i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        driver->MajorFunction[i] = pass;
    driver->DriverUnload = unload;
    status = IoCreateDevice(driver, sizeof(EXTENSION), NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    status = IoGetDeviceObjectPointer(&below, FILE_READ_DATA, &extension->file, &top);
    if (!NT_SUCCESS(status)) {
        IoDeleteDevice(device);
        return status;
    }
    extension->lower = IoAttachDeviceToDeviceStack(device, top);
    if (!extension->lower) {
        ObDereferenceObject(extension->file);
        IoDeleteDevice(device);
        return STATUS_NO_SUCH_DEVICE;
    }
    device->Flags |= extension->lower->Flags & (DO_BUFFERED_IO | DO_DIRECT_IO);
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    return STATUS_SUCCESS;
}
