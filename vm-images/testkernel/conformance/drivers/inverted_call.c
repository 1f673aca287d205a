/*
 * An inverted-call driver: reads are kept in a cancel-safe queue until the card has something to say; then its DPC completes
 * the oldest. Cleanup cancels what its file object still has there.
 */
#include "card.h"

#define LINK L"\\DosDevices\\InvertedCall"

typedef struct _EXTENSION {
    CARD card;
    IO_CSQ csq;
    LIST_ENTRY queue;
    KSPIN_LOCK lock;
    KDPC dpc;
    LONG serviced, kept, cancelled;
} EXTENSION;

static VOID NTAPI insert(PIO_CSQ csq, PIRP irp)
{
    EXTENSION *extension = CONTAINING_RECORD(csq, EXTENSION, csq);
    InterlockedIncrement(&extension->kept);
    InsertTailList(&extension->queue, &irp->Tail.Overlay.ListEntry);
}

static VOID NTAPI take_out(PIO_CSQ csq, PIRP irp)
{
    RemoveEntryList(&irp->Tail.Overlay.ListEntry);
}

static PIRP NTAPI peek(PIO_CSQ csq, PIRP irp, PVOID context)
{
    EXTENSION *extension = CONTAINING_RECORD(csq, EXTENSION, csq);
    PLIST_ENTRY entry = irp ? irp->Tail.Overlay.ListEntry.Flink : extension->queue.Flink;

    for (; entry != &extension->queue; entry = entry->Flink) {
        PIRP next = CONTAINING_RECORD(entry, IRP, Tail.Overlay.ListEntry);
        if (!context || IoGetCurrentIrpStackLocation(next)->FileObject == context)
            return next;
    }
    return NULL;
}

static VOID NTAPI acquire(PIO_CSQ csq, PKIRQL irql)
{
    KeAcquireSpinLock(&CONTAINING_RECORD(csq, EXTENSION, csq)->lock, irql);
}

static VOID NTAPI release(PIO_CSQ csq, KIRQL irql)
{
    KeReleaseSpinLock(&CONTAINING_RECORD(csq, EXTENSION, csq)->lock, irql);
}

static VOID NTAPI cancelled(PIO_CSQ csq, PIRP irp)
{
    InterlockedIncrement(&CONTAINING_RECORD(csq, EXTENSION, csq)->cancelled);
    complete(irp, STATUS_CANCELLED, 0);
}

static BOOLEAN NTAPI isr(PKINTERRUPT interrupt, PVOID context)
{
    EXTENSION *extension = context;

    if (!card_acknowledge(&extension->card))
        return FALSE;
    extension->serviced++;
    KeInsertQueueDpc(&extension->dpc, NULL, NULL);
    return TRUE;
}

struct take {
    CARD *card;
    ULONG sample;
};

static BOOLEAN NTAPI take_sample(PVOID context)
{
    struct take *take = context;

    if (!card_read(take->card, CARD_FIFO_LEVEL))
        return FALSE;
    take->sample = card_read(take->card, CARD_FIFO_DATA);
    return TRUE;
}

/* As many reads as there are samples. A sample is taken only for a read that nobody can cancel any more. */
static VOID answer(EXTENSION *extension)
{
    PIRP irp;

    while (card_read(&extension->card, CARD_FIFO_LEVEL) && (irp = IoCsqRemoveNextIrp(&extension->csq, NULL)) != NULL) {
        struct take take = { &extension->card, 0 };
        if (!KeSynchronizeExecution(extension->card.interrupt, take_sample, &take)) {
            IoCsqInsertIrp(&extension->csq, irp, NULL);
            break;
        }
        *(ULONG *)irp->AssociatedIrp.SystemBuffer = take.sample;
        complete(irp, STATUS_SUCCESS, sizeof(ULONG));
    }
}

static VOID NTAPI dpc_routine(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    answer(context);
}

static NTSTATUS NTAPI read(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;

    if (IoGetCurrentIrpStackLocation(irp)->Parameters.Read.Length < sizeof(ULONG))
        return complete(irp, STATUS_BUFFER_TOO_SMALL, 0);
    IoCsqInsertIrp(&extension->csq, irp, NULL);
    KeInsertQueueDpc(&extension->dpc, NULL, NULL);
    return STATUS_PENDING;
}

static NTSTATUS NTAPI cleanup(PDEVICE_OBJECT device, PIRP irp)
{
    EXTENSION *extension = device->DeviceExtension;
    PFILE_OBJECT file = IoGetCurrentIrpStackLocation(irp)->FileObject;
    PIRP pending;

    while ((pending = IoCsqRemoveNextIrp(&extension->csq, file)) != NULL)
        cancelled(&extension->csq, pending);
    return complete(irp, STATUS_SUCCESS, 0);
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    PDEVICE_OBJECT device = driver->DeviceObject;
    EXTENSION *extension = device->DeviceExtension;

    card_disconnect(&extension->card);
    KeRemoveQueueDpc(&extension->dpc);
    KeFlushQueuedDpcs();
    DbgPrint("inverted_call: %d interrupts, %d kept, %d cancelled\n", extension->serviced, extension->kept,
             extension->cancelled);
    delete_device(device, LINK);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    PDEVICE_OBJECT device;
    EXTENSION *extension;
    CARD card = { 0 };
    NTSTATUS status = card_find(&card, path);

    if (NT_SUCCESS(status))
        status = create_device(driver, L"\\Device\\InvertedCall", LINK, sizeof(EXTENSION), &device);
    if (!NT_SUCCESS(status))
        return status;
    extension = device->DeviceExtension;
    extension->card = card;
    device->Flags |= DO_BUFFERED_IO;
    InitializeListHead(&extension->queue);
    KeInitializeSpinLock(&extension->lock);
    KeInitializeDpc(&extension->dpc, dpc_routine, extension);
    status = IoCsqInitialize(&extension->csq, insert, take_out, peek, acquire, release, cancelled);
    if (NT_SUCCESS(status))
        status = card_connect(&extension->card, isr, extension);
    if (!NT_SUCCESS(status)) {
        delete_device(device, LINK);
        return status;
    }
    driver->MajorFunction[IRP_MJ_CREATE] = succeed;
    driver->MajorFunction[IRP_MJ_CLOSE] = succeed;
    driver->MajorFunction[IRP_MJ_CLEANUP] = cleanup;
    driver->MajorFunction[IRP_MJ_READ] = read;
    driver->DriverUnload = unload;
    card_enable(&extension->card);
    return STATUS_SUCCESS;
}
