/* IRPs: allocation, stack locations, completion routines, cancellation, queues of them, requests that the I/O manager builds. */
#include <check.h>

static PDRIVER_OBJECT self;
static PDEVICE_OBJECT low, high;

static struct {
    NTSTATUS answer;          /* what the lower device completes with */
    BOOLEAN hold;             /* it keeps the IRP instead */
    PIRP held;
    UCHAR major, minor;
    ULONG length, code;
    PVOID system, user, input;
    PMDL mdl;
    ULONG_PTR information;
    CHAR location, stacks;
    KPROCESSOR_MODE mode;
    PFILE_OBJECT file;
} lower;

static NTSTATUS NTAPI lower_dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(irp);
    lower.major = stack->MajorFunction;
    lower.minor = stack->MinorFunction;
    lower.length = stack->Parameters.Read.Length;
    lower.code = stack->Parameters.DeviceIoControl.IoControlCode;
    lower.input = stack->Parameters.DeviceIoControl.Type3InputBuffer;
    lower.system = irp->AssociatedIrp.SystemBuffer;
    lower.user = irp->UserBuffer;
    lower.mdl = irp->MdlAddress;
    lower.location = irp->CurrentLocation;
    lower.stacks = irp->StackCount;
    lower.mode = irp->RequestorMode;
    lower.file = stack->FileObject;
    if (lower.hold) {
        lower.held = irp;
        IoMarkIrpPending(irp);
        return STATUS_PENDING;
    }
    irp->IoStatus.Status = lower.answer;
    irp->IoStatus.Information = lower.information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return lower.answer;
}

static NTSTATUS NTAPI dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    if (device == low)
        return lower_dispatch(device, irp);
    IoSkipCurrentIrpStackLocation(irp);
    return IoCallDriver(low, irp);
}

static struct {
    LONG calls, order[4];
    PDEVICE_OBJECT device;
    PVOID context;
    NTSTATUS status;
    BOOLEAN pending;
    KIRQL irql;
} routine;

static NTSTATUS NTAPI keep(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    routine.calls++;
    routine.device = device;
    routine.context = context;
    routine.status = irp->IoStatus.Status;
    routine.pending = irp->PendingReturned;
    routine.irql = KeGetCurrentIrql();
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void fresh(PIRP irp, UCHAR major)
{
    PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);
    RtlZeroMemory(&routine, sizeof(routine));
    RtlZeroMemory(&lower, sizeof(lower));
    next->MajorFunction = major;
}

static void allocation(void)
{
    PIRP irp = NULL;

    RULE("IoAllocateIrp function", "an IRP with so many locations, none of them current") {
        irp = IoAllocateIrp(3, FALSE);
        EXPECT(irp != NULL);
        EXPECT_EQ(irp->Type, IO_TYPE_IRP);
        EXPECT_EQ(irp->Size, IoSizeOfIrp(3));
        EXPECT_EQ(irp->StackCount, 3);
        EXPECT_EQ(irp->CurrentLocation, 4);
        EXPECT(irp->MdlAddress == NULL && irp->CancelRoutine == NULL && !irp->Cancel);
        EXPECT(IsListEmpty(&irp->ThreadListEntry));
    }
    RULE("IoSetNextIrpStackLocation macro", "the next location becomes the current one") {
        PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);
        IoSetNextIrpStackLocation(irp);
        EXPECT_EQ(irp->CurrentLocation, 3);
        EXPECT(IoGetCurrentIrpStackLocation(irp) == next);
    }
    RULE("IoReuseIrp function", "as new, with the status that is given") {
        irp->Cancel = TRUE;
        IoReuseIrp(irp, STATUS_MORE_ENTRIES);
        EXPECT_EQ(irp->CurrentLocation, 4);
        EXPECT(!irp->Cancel);
        EXPECT_STATUS(irp->IoStatus.Status, STATUS_MORE_ENTRIES);
        EXPECT_EQ(irp->StackCount, 3);
        IoFreeIrp(irp);
    }
    RULE("IoInitializeIrp function", "an IRP in the driver's own memory") {
        USHORT size = IoSizeOfIrp(2);
        irp = ExAllocatePoolWithTag(NonPagedPool, size, 'fnoC');
        RtlFillMemory(irp, size, 0xCC);
        IoInitializeIrp(irp, size, 2);
        EXPECT_EQ(irp->Type, IO_TYPE_IRP);
        EXPECT_EQ(irp->Size, size);
        EXPECT_EQ(irp->StackCount, 2);
        EXPECT_EQ(irp->CurrentLocation, 3);
        EXPECT(irp->CancelRoutine == NULL);
        ExFreePool(irp);
    }
    RULE("IoAllocateIrp function", "may be called at DISPATCH_LEVEL") {
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        irp = IoAllocateIrp(1, FALSE);
        KeLowerIrql(irql);
        EXPECT(irp != NULL);
        IoFreeIrp(irp);
    }
}

static void calling(void)
{
    PIRP irp = IoAllocateIrp(low->StackSize, FALSE);

    RULE("IoCallDriver macro", "calls the dispatch routine of the major function at the next location; returns its status") {
        fresh(irp, IRP_MJ_WRITE);
        IoSetCompletionRoutine(irp, keep, &routine, TRUE, TRUE, TRUE);
        lower.answer = STATUS_DEVICE_BUSY;
        EXPECT_STATUS(IoCallDriver(low, irp), STATUS_DEVICE_BUSY);
        EXPECT_EQ(lower.major, IRP_MJ_WRITE);
        EXPECT_EQ(lower.location, 1);
    }
    RULE("IoCallDriver macro", "sets the device object of the location that it calls at") {
        PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);
        EXPECT(next->DeviceObject == low);
    }
    RULE("IO_COMPLETION_ROUTINE callback function", "is called with its context and the IRP's final status") {
        EXPECT_EQ(routine.calls, 1);
        EXPECT(routine.context == &routine);
        EXPECT_STATUS(routine.status, STATUS_DEVICE_BUSY);
    }
    RULE("IoSetCompletionRoutine macro", "the routine of an IRP's first driver, which has no location, gets no device object") {
        EXPECT(routine.device == NULL);
    }
    RULE("Returning Status from Completion Routines", "STATUS_MORE_PROCESSING_REQUIRED leaves the IRP to the driver") {
        IoReuseIrp(irp, STATUS_NOT_SUPPORTED);
        EXPECT_EQ(irp->CurrentLocation, irp->StackCount + 1);
    }
    RULE("IoSetCompletionRoutine macro", "not called on success where only errors are asked for") {
        PIRP two = IoAllocateIrp(2, FALSE);
        fresh(two, IRP_MJ_READ);
        IoSetCompletionRoutine(two, keep, (PVOID)1, TRUE, TRUE, TRUE);
        IoSetNextIrpStackLocation(two);
        IoGetCurrentIrpStackLocation(two)->DeviceObject = high;
        IoCopyCurrentIrpStackLocationToNext(two);
        IoSetCompletionRoutine(two, keep, (PVOID)2, FALSE, TRUE, FALSE);
        lower.answer = STATUS_SUCCESS;
        IoCallDriver(low, two);
        EXPECT_EQ(routine.calls, 1);
        EXPECT(routine.context == (PVOID)1);
        IoFreeIrp(two);
    }
    RULE("IoSetCompletionRoutine macro", "called on errors where only errors are asked for, with the driver's own device") {
        PIRP two = IoAllocateIrp(2, FALSE);
        fresh(two, IRP_MJ_READ);
        IoSetNextIrpStackLocation(two);
        IoGetCurrentIrpStackLocation(two)->DeviceObject = high;
        IoCopyCurrentIrpStackLocationToNext(two);
        IoSetCompletionRoutine(two, keep, (PVOID)2, FALSE, TRUE, FALSE);
        lower.answer = STATUS_IO_DEVICE_ERROR;
        IoCallDriver(low, two);
        EXPECT_EQ(routine.calls, 1);
        EXPECT(routine.device == high);
        EXPECT_STATUS(routine.status, STATUS_IO_DEVICE_ERROR);
        IoFreeIrp(two);
    }
    RULE("IoMarkIrpPending function", "shows as PendingReturned in the completion routine above") {
        fresh(irp, IRP_MJ_READ);
        IoSetCompletionRoutine(irp, keep, NULL, TRUE, TRUE, TRUE);
        lower.hold = TRUE;
        EXPECT_STATUS(IoCallDriver(low, irp), STATUS_PENDING);
        EXPECT_EQ(routine.calls, 0);
        lower.held->IoStatus.Status = STATUS_SUCCESS;
        IoCompleteRequest(lower.held, IO_NO_INCREMENT);
        EXPECT_EQ(routine.calls, 1);
        EXPECT(routine.pending);
    }
    RULE("IoCompleteRequest macro", "may be called at DISPATCH_LEVEL, and the routine runs there") {
        IoReuseIrp(irp, STATUS_SUCCESS);
        fresh(irp, IRP_MJ_READ);
        IoSetCompletionRoutine(irp, keep, NULL, TRUE, TRUE, TRUE);
        lower.hold = TRUE;
        IoCallDriver(low, irp);
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        lower.held->IoStatus.Status = STATUS_SUCCESS;
        IoCompleteRequest(lower.held, IO_NO_INCREMENT);
        KeLowerIrql(irql);
        EXPECT_EQ(routine.calls, 1);
        EXPECT_EQ(routine.irql, DISPATCH_LEVEL);
    }
    RULE("IoSkipCurrentIrpStackLocation function", "the driver below gets the same location") {
        PIRP two = IoAllocateIrp(high->StackSize, FALSE);
        fresh(two, IRP_MJ_READ);
        IoGetNextIrpStackLocation(two)->Parameters.Read.Length = 77;
        IoSetCompletionRoutine(two, keep, NULL, TRUE, TRUE, TRUE);
        lower.answer = STATUS_SUCCESS;
        IoCallDriver(high, two);
        EXPECT_EQ(lower.length, 77);
        EXPECT_EQ(lower.location, 2);
        EXPECT_EQ(routine.calls, 1);
        IoFreeIrp(two);
    }
    IoFreeIrp(irp);
}

static void built(void)
{
    IO_STATUS_BLOCK block;
    KEVENT event;
    PIRP irp;
    UCHAR buffer[64];
    LARGE_INTEGER offset = { .QuadPart = 0x1122334455LL };

    KeInitializeEvent(&event, NotificationEvent, FALSE);
    RtlZeroMemory(&lower, sizeof(lower));
    RULE("IoBuildSynchronousFsdRequest function", "the event is signaled and the status block filled in on completion") {
        lower.answer = STATUS_SUCCESS;
        lower.information = 12;
        irp = IoBuildSynchronousFsdRequest(IRP_MJ_READ, low, buffer, sizeof(buffer), &offset, &event, &block);
        EXPECT(irp != NULL);
        EXPECT_EQ(IoGetNextIrpStackLocation(irp)->Parameters.Read.ByteOffset.QuadPart, offset.QuadPart);
        EXPECT_STATUS(IoCallDriver(low, irp), STATUS_SUCCESS);
        EXPECT_STATUS(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(block.Status, STATUS_SUCCESS);
        EXPECT_EQ(block.Information, 12);
        EXPECT_EQ(lower.length, sizeof(buffer));
    }
    RULE("IoBuildSynchronousFsdRequest function", "neither buffered nor direct: the user buffer is the caller's") {
        EXPECT(lower.user == buffer);
        EXPECT(lower.system == NULL && lower.mdl == NULL);
        EXPECT_EQ(lower.mode, KernelMode);
    }
    RULE("Using Buffered I/O", "a write's data is in the system buffer; a read's comes from there") {
        low->Flags |= DO_BUFFERED_IO;
        KeClearEvent(&event);
        irp = IoBuildSynchronousFsdRequest(IRP_MJ_WRITE, low, buffer, 16, &offset, &event, &block);
        EXPECT(irp->AssociatedIrp.SystemBuffer != NULL);
        IoCallDriver(low, irp);
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        EXPECT(lower.system != NULL && lower.system != buffer);
        low->Flags &= ~DO_BUFFERED_IO;
    }
    RULE("Using Direct I/O", "the buffer comes as an MDL") {
        low->Flags |= DO_DIRECT_IO;
        KeClearEvent(&event);
        irp = IoBuildSynchronousFsdRequest(IRP_MJ_READ, low, buffer, 48, &offset, &event, &block);
        EXPECT(irp->MdlAddress != NULL);
        EXPECT_EQ(MmGetMdlByteCount(irp->MdlAddress), 48);
        EXPECT(MmGetMdlVirtualAddress(irp->MdlAddress) == buffer);
        IoCallDriver(low, irp);
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        low->Flags &= ~DO_DIRECT_IO;
    }
    RULE("IoBuildDeviceIoControlRequest function", "METHOD_BUFFERED: one buffer, large enough for both, with the input in it") {
        ULONG code = CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS);
        KeClearEvent(&event);
        buffer[0] = 0x42;
        irp = IoBuildDeviceIoControlRequest(code, low, buffer, 8, buffer + 16, 32, FALSE, &event, &block);
        EXPECT(irp != NULL);
        EXPECT_EQ(*(PUCHAR)irp->AssociatedIrp.SystemBuffer, 0x42);
        lower.information = 0;
        IoCallDriver(low, irp);
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        EXPECT_EQ(lower.major, IRP_MJ_DEVICE_CONTROL);
        EXPECT_EQ(lower.code, code);
    }
    RULE("IoBuildDeviceIoControlRequest function", "METHOD_NEITHER: the caller's pointers as they are") {
        ULONG code = CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_NEITHER, FILE_ANY_ACCESS);
        KeClearEvent(&event);
        irp = IoBuildDeviceIoControlRequest(code, low, buffer, 8, buffer + 16, 32, TRUE, &event, &block);
        IoCallDriver(low, irp);
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        EXPECT_EQ(lower.major, IRP_MJ_INTERNAL_DEVICE_CONTROL);
        EXPECT(lower.input == buffer);
        EXPECT(lower.user == buffer + 16);
    }
    RULE("IoBuildDeviceIoControlRequest function", "METHOD_OUT_DIRECT: input in the system buffer, an MDL for the output") {
        ULONG code = CTL_CODE(FILE_DEVICE_UNKNOWN, 0x802, METHOD_OUT_DIRECT, FILE_ANY_ACCESS);
        KeClearEvent(&event);
        irp = IoBuildDeviceIoControlRequest(code, low, buffer, 8, buffer + 16, 32, FALSE, &event, &block);
        EXPECT(irp->AssociatedIrp.SystemBuffer != NULL);
        EXPECT(irp->MdlAddress != NULL);
        EXPECT_EQ(MmGetMdlByteCount(irp->MdlAddress), 32);
        IoCallDriver(low, irp);
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
    }
    RULE("IoBuildAsynchronousFsdRequest function", "the driver's completion routine takes it, and frees it") {
        irp = IoBuildAsynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, low, NULL, 0, NULL, &block);
        EXPECT(irp != NULL);
        RtlZeroMemory(&routine, sizeof(routine));
        IoSetCompletionRoutine(irp, keep, NULL, TRUE, TRUE, TRUE);
        IoCallDriver(low, irp);
        EXPECT_EQ(routine.calls, 1);
        IoFreeIrp(irp);
    }
}

static struct {
    LONG calls;
    KIRQL irql;
    PDEVICE_OBJECT device;
} cancelled;

static VOID NTAPI on_cancel(PDEVICE_OBJECT device, PIRP irp)
{
    cancelled.calls++;
    cancelled.irql = KeGetCurrentIrql();
    cancelled.device = device;
    IoReleaseCancelSpinLock(irp->CancelIrql);
}

static void cancelling(void)
{
    PIRP irp = IoAllocateIrp(1, FALSE);
    KIRQL irql;

    RULE("IoCancelIrp function", "FALSE without a cancel routine; the IRP is marked all the same") {
        EXPECT(!IoCancelIrp(irp));
        EXPECT(irp->Cancel);
        irp->Cancel = FALSE;
    }
    RULE("IoSetCancelRoutine function", "returns the former routine, NULL where there was none") {
        EXPECT(IoSetCancelRoutine(irp, on_cancel) == NULL);
        EXPECT(IoSetCancelRoutine(irp, on_cancel) == on_cancel);
    }
    RULE("IoCancelIrp function", "calls the routine once, holding the cancel spin lock, with none set any more") {
        IoSetNextIrpStackLocation(irp);
        IoGetCurrentIrpStackLocation(irp)->DeviceObject = low;
        EXPECT(IoCancelIrp(irp));
        EXPECT_EQ(cancelled.calls, 1);
        EXPECT_EQ(cancelled.irql, DISPATCH_LEVEL);
        EXPECT(cancelled.device == low);
        EXPECT(irp->CancelRoutine == NULL);
        EXPECT_PASSIVE();
        EXPECT(!IoCancelIrp(irp));
        EXPECT_EQ(cancelled.calls, 1);
    }
    RULE("IoAcquireCancelSpinLock function", "raises to DISPATCH_LEVEL; the release restores the level") {
        IoAcquireCancelSpinLock(&irql);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        EXPECT_EQ(irql, PASSIVE_LEVEL);
        IoReleaseCancelSpinLock(irql);
        EXPECT_PASSIVE();
    }
    IoFreeIrp(irp);
}

static struct {
    IO_CSQ csq;
    LIST_ENTRY list;
    KSPIN_LOCK lock;
    LONG cancelled;
} queue;

static VOID NTAPI csq_insert(PIO_CSQ csq, PIRP irp)
{
    InsertTailList(&queue.list, &irp->Tail.Overlay.ListEntry);
}

static VOID NTAPI csq_remove(PIO_CSQ csq, PIRP irp)
{
    RemoveEntryList(&irp->Tail.Overlay.ListEntry);
}

static PIRP NTAPI csq_peek(PIO_CSQ csq, PIRP irp, PVOID context)
{
    PLIST_ENTRY next = irp ? irp->Tail.Overlay.ListEntry.Flink : queue.list.Flink;
    return next == &queue.list ? NULL : CONTAINING_RECORD(next, IRP, Tail.Overlay.ListEntry);
}

static VOID NTAPI csq_acquire(PIO_CSQ csq, PKIRQL irql)
{
    KeAcquireSpinLock(&queue.lock, irql);
}

static VOID NTAPI csq_release(PIO_CSQ csq, KIRQL irql)
{
    KeReleaseSpinLock(&queue.lock, irql);
}

static VOID NTAPI csq_cancelled(PIO_CSQ csq, PIRP irp)
{
    queue.cancelled++;
}

static void queues(void)
{
    PIRP irps[3];
    IO_CSQ_IRP_CONTEXT context;

    InitializeListHead(&queue.list);
    KeInitializeSpinLock(&queue.lock);
    for (int i = 0; i < 3; i++) {
        irps[i] = IoAllocateIrp(1, FALSE);
        IoSetNextIrpStackLocation(irps[i]);
        IoGetCurrentIrpStackLocation(irps[i])->DeviceObject = low;
    }
    RULE("IoCsqInitialize function", "STATUS_SUCCESS") {
        EXPECT_STATUS(IoCsqInitialize(&queue.csq, csq_insert, csq_remove, csq_peek, csq_acquire, csq_release,
                                      csq_cancelled), STATUS_SUCCESS);
    }
    RULE("IoCsqInsertIrp function", "queues the IRP, marks it pending, and makes it cancelable") {
        IoCsqInsertIrp(&queue.csq, irps[0], NULL);
        IoCsqInsertIrp(&queue.csq, irps[1], &context);
        IoCsqInsertIrp(&queue.csq, irps[2], NULL);
        EXPECT(IoGetCurrentIrpStackLocation(irps[0])->Control & SL_PENDING_RETURNED);
        EXPECT(irps[0]->CancelRoutine != NULL);
    }
    RULE("IoCsqRemoveIrp function", "by context: the IRP, and NULL the second time") {
        EXPECT(IoCsqRemoveIrp(&queue.csq, &context) == irps[1]);
        EXPECT(IoCsqRemoveIrp(&queue.csq, &context) == NULL);
        EXPECT(irps[1]->CancelRoutine == NULL);
    }
    RULE("IoCancelIrp function", "a queued IRP goes to the queue's CsqCompleteCanceledIrp") {
        EXPECT(IoCancelIrp(irps[0]));
        EXPECT_EQ(queue.cancelled, 1);
    }
    RULE("IoCsqRemoveNextIrp function", "the next one that is not cancelled; NULL where there is none") {
        EXPECT(IoCsqRemoveNextIrp(&queue.csq, NULL) == irps[2]);
        EXPECT(IoCsqRemoveNextIrp(&queue.csq, NULL) == NULL);
    }
    RULE("IoCsqInsertIrp function", "an IRP that is cancelled already is completed as cancelled at once") {
        irps[1]->Cancel = TRUE;
        IoCsqInsertIrp(&queue.csq, irps[1], NULL);
        EXPECT_EQ(queue.cancelled, 2);
        EXPECT(IsListEmpty(&queue.list));
    }
    for (int i = 0; i < 3; i++)
        IoFreeIrp(irps[i]);
}

static void device_queues(void)
{
    KDEVICE_QUEUE device;
    KDEVICE_QUEUE_ENTRY a, b, c;
    KIRQL irql = KeRaiseIrqlToDpcLevel();

    KeInitializeDeviceQueue(&device);
    RULE("KeInsertDeviceQueue function", "FALSE where the queue was not busy: it is now, and the entry is not queued") {
        EXPECT(!KeInsertDeviceQueue(&device, &a));
        EXPECT(device.Busy);
        EXPECT(KeInsertDeviceQueue(&device, &a));
        EXPECT(a.Inserted);
    }
    RULE("KeRemoveDeviceQueue function", "the first entry; NULL makes the queue not busy") {
        KeInsertDeviceQueue(&device, &b);
        EXPECT(KeRemoveDeviceQueue(&device) == &a);
        EXPECT(KeRemoveDeviceQueue(&device) == &b);
        EXPECT(KeRemoveDeviceQueue(&device) == NULL);
        EXPECT(!device.Busy);
    }
    RULE("KeInsertByKeyDeviceQueue function", "the smaller key comes first") {
        KeInsertByKeyDeviceQueue(&device, &a, 0);
        KeInsertByKeyDeviceQueue(&device, &a, 9);
        KeInsertByKeyDeviceQueue(&device, &b, 3);
        KeInsertByKeyDeviceQueue(&device, &c, 6);
        EXPECT(KeRemoveByKeyDeviceQueue(&device, 4) == &c);
        EXPECT(KeRemoveDeviceQueue(&device) == &b);
        EXPECT(KeRemoveDeviceQueue(&device) == &a);
        EXPECT(KeRemoveDeviceQueue(&device) == NULL);
    }
    RULE("KeRemoveEntryDeviceQueue function", "TRUE where the entry was queued; the queue stays busy") {
        KeInsertDeviceQueue(&device, &a);
        KeInsertDeviceQueue(&device, &a);
        EXPECT(KeRemoveEntryDeviceQueue(&device, &a));
        EXPECT(!KeRemoveEntryDeviceQueue(&device, &a));
        EXPECT(device.Busy);
        EXPECT(KeRemoveDeviceQueue(&device) == NULL);
    }
    KeLowerIrql(irql);
}

static void remove_locks(void)
{
    static IO_REMOVE_LOCK lock;

    IoInitializeRemoveLock(&lock, 'fnoC', 0, 0);
    RULE("IoAcquireRemoveLock macro", "STATUS_SUCCESS until the device is being removed, STATUS_DELETE_PENDING then") {
        EXPECT_STATUS(IoAcquireRemoveLock(&lock, &lock), STATUS_SUCCESS);
        EXPECT_STATUS(IoAcquireRemoveLock(&lock, &low), STATUS_SUCCESS);
        IoReleaseRemoveLock(&lock, &low);
        IoReleaseRemoveLockAndWait(&lock, &lock);
        EXPECT_STATUS(IoAcquireRemoveLock(&lock, &lock), STATUS_DELETE_PENDING);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    self = driver;
    for (int i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        driver->MajorFunction[i] = dispatch;
    IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &low);
    IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &high);
    low->Flags &= ~DO_DEVICE_INITIALIZING;
    IoAttachDeviceToDeviceStack(high, low);
    high->Flags &= ~DO_DEVICE_INITIALIZING;
    allocation();
    calling();
    built();
    cancelling();
    queues();
    device_queues();
    remove_locks();
    IoDetachDevice(low);
    IoDeleteDevice(high);
    IoDeleteDevice(low);
}

SUITE("Io requests")
