/*
 * A driver that asks another one: it opens the device by its name, has the I/O manager build a control request for it, and
 * waits for the answer. Here the other is the driver of the repository, and the answer what it has counted.
 *
 *     IoGetDeviceObjectPointer, IoBuildDeviceIoControlRequest, IoCallDriver, KeWaitForSingleObject, ObDereferenceObject
 */
#include <ntddk.h>

#define IOCTL_GET_STATISTICS CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_READ_ACCESS)
#define IOCTL_GET_RECORDING CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_READ_ACCESS)

static NTSTATUS ask(PDEVICE_OBJECT device, PFILE_OBJECT file, ULONG code, PVOID answer, ULONG room, ULONG_PTR *bytes)
{
    IO_STATUS_BLOCK outcome = {{0}, 0};
    KEVENT event;
    NTSTATUS status;
    PIRP irp;

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    irp = IoBuildDeviceIoControlRequest(code, device, NULL, 0, answer, room, FALSE, &event, &outcome);
    if (!irp)
        return STATUS_INSUFFICIENT_RESOURCES;
    /* The other driver keeps what it knows of an open file in the file object. */
    IoGetNextIrpStackLocation(irp)->FileObject = file;
    status = IoCallDriver(device, irp);
    if (status == STATUS_PENDING) {
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        status = outcome.Status;
    }
    *bytes = outcome.Information;
    return status;
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    (void)driver;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\Squall0");
    ULONGLONG counted[6] = {0};
    ULONG samples[4] = {0};
    ULONG_PTR bytes = 0;
    PDEVICE_OBJECT device;
    PFILE_OBJECT file;
    NTSTATUS status;

    (void)path;
    driver->DriverUnload = unload;
    status = IoGetDeviceObjectPointer(&name, FILE_READ_DATA, &file, &device);
    if (!NT_SUCCESS(status))
        return status;
    status = ask(device, file, IOCTL_GET_STATISTICS, counted, sizeof counted, &bytes);
    DbgPrint("asker: status %x, %u bytes: %I64u %I64u %I64u %I64u %I64u %I64u\n", status, (ULONG)bytes, counted[0],
             counted[1], counted[2], counted[3], counted[4], counted[5]);
    status = ask(device, file, IOCTL_GET_STATISTICS, counted, sizeof counted - 1, &bytes);
    DbgPrint("asker: too small: status %x, %u bytes\n", status, (ULONG)bytes);
    status = ask(device, file, IOCTL_GET_RECORDING, samples, sizeof samples, &bytes);
    DbgPrint("asker: recording: status %x, %u bytes: %u %u %u %u\n", status, (ULONG)bytes, samples[0], samples[1],
             samples[2], samples[3]);
    ObDereferenceObject(file);
    return STATUS_SUCCESS;
}
