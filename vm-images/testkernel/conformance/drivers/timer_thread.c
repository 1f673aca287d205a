// build: -s
/*
 * A timer-and-thread driver: it polls instead of being interrupted. A periodic timer's DPC looks at the card every 2 ms and
 * wakes a thread, which fills a buffer under a fast mutex; reads are answered from the buffer. Unload stops both and waits.
 */
#include "card.h"

#define LINK L"\\DosDevices\\TimerThread"
#define ROOM 256

typedef struct _EXTENSION {
    CARD card;
    KTIMER timer;
    KDPC dpc;
    KEVENT wake, stop;
    PKTHREAD thread;
    FAST_MUTEX mutex;
    ULONG samples[ROOM];
    ULONG first, count;
    LONG ticks, wakes;
} EXTENSION;

static VOID NTAPI on_timer(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    EXTENSION *extension = context;

    InterlockedIncrement(&extension->ticks);
    if (card_acknowledge(&extension->card))
        KeSetEvent(&extension->wake, IO_NO_INCREMENT, FALSE);
}

static VOID NTAPI worker(PVOID context)
{
    EXTENSION *extension = context;
    PVOID objects[2] = { &extension->stop, &extension->wake };

    while (KeWaitForMultipleObjects(2, objects, WaitAny, Executive, KernelMode, FALSE, NULL, NULL) == STATUS_WAIT_1) {
        extension->wakes++;
        ExAcquireFastMutex(&extension->mutex);
        while (extension->count < ROOM && card_read(&extension->card, CARD_FIFO_LEVEL))
            extension->samples[(extension->first + extension->count++) % ROOM] =
                card_read(&extension->card, CARD_FIFO_DATA);
        ExReleaseFastMutex(&extension->mutex);
    }
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static NTSTATUS NTAPI read(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;
    ULONG room = IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length / sizeof(ULONG), taken = 0;
    ULONG *to = irp->MdlAddress ? MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority) : NULL;

    if (!to)
        return complete(irp, room ? STATUS_INSUFFICIENT_RESOURCES : STATUS_SUCCESS, 0);
    ExAcquireFastMutex(&extension->mutex);
    for (; taken < room && extension->count; extension->count--) {
        to[taken++] = extension->samples[extension->first];
        extension->first = (extension->first + 1) % ROOM;
    }
    ExReleaseFastMutex(&extension->mutex);
    return complete(irp, STATUS_SUCCESS, taken * sizeof(ULONG));
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    PDEVICE_OBJECT device = driver->DeviceObject;
    EXTENSION *extension = device->DeviceExtension;

    card_write(&extension->card, CARD_CONTROL, 0);
    KeCancelTimer(&extension->timer);
    KeRemoveQueueDpc(&extension->dpc);
    KeFlushQueuedDpcs();
    KeSetEvent(&extension->stop, IO_NO_INCREMENT, FALSE);
    KeWaitForSingleObject(extension->thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(extension->thread);
    DbgPrint("timer_thread: %d ticks, %d wakes\n", extension->ticks, extension->wakes);
    delete_device(device, LINK);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    PDEVICE_OBJECT device;
    EXTENSION *extension;
    HANDLE handle;
    CARD card = { 0 };
    NTSTATUS status = card_find(&card, path);

    if (NT_SUCCESS(status))
        status = create_device(driver, L"\\Device\\TimerThread", LINK, sizeof(EXTENSION), &device);
    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    extension->card = card;
    device->Flags |= DO_DIRECT_IO;
    ExInitializeFastMutex(&extension->mutex);
    KeInitializeEvent(&extension->wake, SynchronizationEvent, FALSE);
    KeInitializeEvent(&extension->stop, NotificationEvent, FALSE);
    KeInitializeDpc(&extension->dpc, on_timer, extension);
    KeInitializeTimerEx(&extension->timer, NotificationTimer);
    status = PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, worker, extension);
    if (!NT_SUCCESS(status)) {
        delete_device(device, LINK);
        return status;
    }
    ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, NULL, KernelMode, (PVOID *)&extension->thread, NULL);
    ZwClose(handle);
    driver->MajorFunction[IRP_MJ_CREATE] = succeed;
    driver->MajorFunction[IRP_MJ_CLOSE] = succeed;
    driver->MajorFunction[IRP_MJ_CLEANUP] = succeed;
    driver->MajorFunction[IRP_MJ_READ] = read;
    driver->DriverUnload = unload;
    card_enable(&extension->card);
    LARGE_INTEGER due = { .QuadPart = -20000 };
    KeSetTimerEx(&extension->timer, due, 2, &extension->dpc);
    return STATUS_SUCCESS;
}
