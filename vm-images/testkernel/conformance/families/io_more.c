/* More of the I/O manager: associated IRPs, waiting for lower drivers, who asked, hard errors, files, volumes. */
#include <check.h>

__declspec(dllimport) NTSTATUS NTAPI IoGetAffinityInterrupt(PKINTERRUPT interrupt, PGROUP_AFFINITY affinity);
__declspec(dllimport) NTSTATUS NTAPI IoSetCompletionRoutineEx(PDEVICE_OBJECT device, PIRP irp, PIO_COMPLETION_ROUTINE routine,
                                                              PVOID context, BOOLEAN success, BOOLEAN error, BOOLEAN cancel);
__declspec(dllimport) NTSTATUS NTAPI IoVolumeDeviceToDosName(PVOID volume, PUNICODE_STRING name);
__declspec(dllimport) VOID NTAPI IoRaiseHardError(PIRP irp, PVPB vpb, PDEVICE_OBJECT device);
__declspec(dllimport) VOID NTAPI IoSetHardErrorOrVerifyDevice(PIRP irp, PDEVICE_OBJECT device);
__declspec(dllimport) BOOLEAN NTAPI IoSetThreadHardErrorMode(BOOLEAN enable);
__declspec(dllimport) PDEVICE_OBJECT NTAPI IoGetDeviceToVerify(PETHREAD thread);

static PDRIVER_OBJECT self;
static PDEVICE_OBJECT low, high;

static struct {
    NTSTATUS answer;
    ULONG_PTR information;
    BOOLEAN hold;
    LONG count;
    PIRP held[4];
    ULONG code;
} lower;

static NTSTATUS NTAPI dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    if (device != low) {
        IoSkipCurrentIrpStackLocation(irp);
        return IoCallDriver(low, irp);
    }
    lower.code = IoGetCurrentIrpStackLocation(irp)->Parameters.DeviceIoControl.IoControlCode;
    if (lower.hold) {
        lower.held[lower.count++ & 3] = irp;
        IoMarkIrpPending(irp);
        return STATUS_PENDING;
    }
    lower.count++;
    irp->IoStatus.Status = lower.answer;
    irp->IoStatus.Information = lower.information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return lower.answer;
}

static void release(PIRP irp, NTSTATUS status)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
}

static struct {
    LONG calls;
    PVOID context;
    NTSTATUS status;
    KIRQL irql;
} seen;

static NTSTATUS NTAPI keep(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    (void)device;
    seen.calls++;
    seen.context = context;
    seen.status = irp->IoStatus.Status;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS NTAPI pass(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    (void)device;
    seen.calls++;
    seen.context = context;
    seen.status = irp->IoStatus.Status;
    if (irp->PendingReturned)
        IoMarkIrpPending(irp);
    return STATUS_CONTINUE_COMPLETION;
}

/* A packet in the hands of `high`'s driver. */
static PIRP received(PIO_COMPLETION_ROUTINE routine)
{
    PIRP irp = IoAllocateIrp((CCHAR)(high->StackSize), FALSE);
    IoSetCompletionRoutine(irp, routine, &seen, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(irp);
    IoGetCurrentIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
    IoGetCurrentIrpStackLocation(irp)->DeviceObject = high;
    IoGetCurrentIrpStackLocation(irp)->Parameters.DeviceIoControl.IoControlCode = 0x1234;
    return irp;
}

static void associated(void)
{
    PIRP master, one = NULL, two = NULL;

    lower.hold = TRUE;
    lower.count = seen.calls = 0;
    /* The issuer takes it back when it is complete. */
    master = IoAllocateIrp(high->StackSize, FALSE);
    IoSetNextIrpStackLocation(master);
    IoSetCompletionRoutine(master, keep, &seen, TRUE, TRUE, TRUE);
    IoSetNextIrpStackLocation(master);
    IoGetCurrentIrpStackLocation(master)->DeviceObject = high;
    RULE("IoMakeAssociatedIrp function", "an IRP with so many stack locations that knows its master") {
        one = IoMakeAssociatedIrp(master, low->StackSize);
        two = IoMakeAssociatedIrp(master, low->StackSize);
        EXPECT(one != NULL && two != NULL);
        EXPECT(one->AssociatedIrp.MasterIrp == master);
        EXPECT(one->Flags & IRP_ASSOCIATED_IRP);
        EXPECT_EQ(one->StackCount, low->StackSize);
        EXPECT_EQ(one->CurrentLocation, low->StackSize + 1);
    }
    RULE("IoMakeAssociatedIrp function", "the master is complete when all that were counted in it are, not before") {
        master->AssociatedIrp.IrpCount = 2;
        IoMarkIrpPending(master);
        IoGetNextIrpStackLocation(one)->MajorFunction = IRP_MJ_READ;
        IoGetNextIrpStackLocation(two)->MajorFunction = IRP_MJ_READ;
        EXPECT_STATUS(IoCallDriver(low, one), STATUS_PENDING);
        EXPECT_STATUS(IoCallDriver(low, two), STATUS_PENDING);
        EXPECT_EQ(lower.count, 2);
        master->IoStatus.Status = STATUS_SUCCESS;
        master->IoStatus.Information = 77;
        release(lower.held[1], STATUS_SUCCESS);
        EXPECT_EQ(seen.calls, 0);
        release(lower.held[0], STATUS_SUCCESS);
        EXPECT_EQ(seen.calls, 1);
        EXPECT(seen.context == &seen);
        EXPECT_EQ(master->IoStatus.Information, 77);
    }
    IoFreeIrp(master);
    RULE("IoMakeAssociatedIrp function", "a driver that takes one back completes it itself later, and the master with it") {
        seen.calls = lower.count = 0;
        master = IoAllocateIrp(high->StackSize, FALSE);
        IoSetNextIrpStackLocation(master);
        IoSetCompletionRoutine(master, keep, &master, TRUE, TRUE, TRUE);
        IoSetNextIrpStackLocation(master);
        master->AssociatedIrp.IrpCount = 1;
        one = IoMakeAssociatedIrp(master, low->StackSize);
        IoSetCompletionRoutine(one, keep, &one, TRUE, TRUE, TRUE);
        EXPECT_STATUS(IoCallDriver(low, one), STATUS_PENDING);
        release(lower.held[0], STATUS_SUCCESS);
        EXPECT_EQ(seen.calls, 1);
        EXPECT(seen.context == &one);
        IoCompleteRequest(one, IO_NO_INCREMENT);
        EXPECT_EQ(seen.calls, 2);
        EXPECT(seen.context == &master);
        IoFreeIrp(master);
    }
    lower.hold = FALSE;
}

static VOID NTAPI release_soon(PVOID context)
{
    (void)context;
    while (!lower.count)
        sleep_us(500);
    sleep_us(2000);
    release(lower.held[0], STATUS_DEVICE_BUSY);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void forwarding(void)
{
    PIRP irp;

    RULE("IoForwardIrpSynchronously function", "sends the IRP on as it is, and it is the caller's again") {
        irp = received(keep);
        lower.count = seen.calls = 0;
        lower.answer = STATUS_UNSUCCESSFUL;
        lower.information = 5;
        EXPECT(IoForwardIrpSynchronously(low, irp));
        EXPECT(lower.count == 1 && lower.code == 0x1234);
        EXPECT_STATUS(irp->IoStatus.Status, STATUS_UNSUCCESSFUL);
        EXPECT_EQ(irp->IoStatus.Information, 5);
        EXPECT_EQ(seen.calls, 0);
        IoFreeIrp(irp);
    }
    RULE("IoForwardIrpSynchronously function", "waits for a driver that returns STATUS_PENDING") {
        PKTHREAD thread;
        irp = received(keep);
        lower.hold = TRUE;
        lower.count = 0;
        thread = start_thread(release_soon, NULL);
        EXPECT(IoForwardIrpSynchronously(low, irp));
        EXPECT_STATUS(irp->IoStatus.Status, STATUS_DEVICE_BUSY);
        join_thread(thread);
        lower.hold = FALSE;
        IoFreeIrp(irp);
    }
    RULE("IoForwardIrpSynchronously function", "FALSE where no stack location is left") {
        irp = IoAllocateIrp(1, FALSE);
        IoSetNextIrpStackLocation(irp);
        lower.count = 0;
        EXPECT(!IoForwardIrpSynchronously(low, irp));
        EXPECT_EQ(lower.count, 0);
        IoFreeIrp(irp);
    }
}

static void held_completion(void)
{
    PIRP irp = IoAllocateIrp(low->StackSize, FALSE);

    RULE("IoSetCompletionRoutineEx function", "the routine is called with its context when the lower driver is done") {
        seen.calls = 0;
        lower.answer = STATUS_SUCCESS;
        EXPECT_STATUS(IoSetCompletionRoutineEx(high, irp, keep, &irp, TRUE, TRUE, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(IoCallDriver(low, irp), STATUS_SUCCESS);
        EXPECT_EQ(seen.calls, 1);
        EXPECT(seen.context == &irp);
    }
    RULE("IoSetCompletionRoutineEx function", "not for the outcomes that it was not asked for") {
        PIRP outer = IoAllocateIrp((CCHAR)(low->StackSize + 1), FALSE);
        seen.calls = 0;
        IoSetCompletionRoutine(outer, keep, &outer, TRUE, TRUE, TRUE);
        IoSetNextIrpStackLocation(outer);
        IoGetCurrentIrpStackLocation(outer)->DeviceObject = high;
        EXPECT_STATUS(IoSetCompletionRoutineEx(high, outer, pass, &seen, FALSE, TRUE, FALSE), STATUS_SUCCESS);
        IoCallDriver(low, outer);
        EXPECT_EQ(seen.calls, 1);
        EXPECT(seen.context == &outer);
        IoFreeIrp(outer);
    }
    IoFreeIrp(irp);
}

static void requestor(void)
{
    PIRP irp = IoAllocateIrp(low->StackSize, FALSE);

    RULE("IoGetTopLevelIrp function", "NULL at first, then what the thread set") {
        EXPECT(IoGetTopLevelIrp() == NULL);
        IoSetTopLevelIrp(irp);
        EXPECT(IoGetTopLevelIrp() == irp);
        IoSetTopLevelIrp((PIRP)FSRTL_FSP_TOP_LEVEL_IRP);
        EXPECT(IoGetTopLevelIrp() == (PIRP)FSRTL_FSP_TOP_LEVEL_IRP);
        IoSetTopLevelIrp(NULL);
        EXPECT(IoGetTopLevelIrp() == NULL);
    }
    RULE("IoGetIoPriorityHint function", "IoPriorityNormal for an IRP that nobody gave another") {
        EXPECT_EQ(IoGetIoPriorityHint(irp), IoPriorityNormal);
    }
    RULE("IoSetIoPriorityHint function", "STATUS_SUCCESS, and IoGetIoPriorityHint tells it") {
        EXPECT_STATUS(IoSetIoPriorityHint(irp, IoPriorityVeryLow), STATUS_SUCCESS);
        EXPECT_EQ(IoGetIoPriorityHint(irp), IoPriorityVeryLow);
        EXPECT_STATUS(IoSetIoPriorityHint(irp, IoPriorityHigh), STATUS_SUCCESS);
        EXPECT_EQ(IoGetIoPriorityHint(irp), IoPriorityHigh);
    }
    RULE("IoSetIoPriorityHint function", "STATUS_INVALID_PARAMETER for what is no priority; the IRP keeps its own") {
        EXPECT_STATUS(IoSetIoPriorityHint(irp, (IO_PRIORITY_HINT)MaxIoPriorityTypes), STATUS_INVALID_PARAMETER);
        EXPECT_EQ(IoGetIoPriorityHint(irp), IoPriorityHigh);
    }
    RULE("IoIs32bitProcess function", "FALSE for a request of the system's own process") {
        EXPECT(!IoIs32bitProcess(irp));
    }
    RULE("IoGetRequestorProcess function", "the process of the thread that asked; NULL where no thread did") {
        EXPECT(IoGetRequestorProcess(irp) == NULL);
        irp->Tail.Overlay.Thread = PsGetCurrentThread();
        EXPECT((PVOID)IoGetRequestorProcess(irp) == (PVOID)PsGetCurrentProcess());
        EXPECT_EQ(IoGetRequestorProcessId(irp), (ULONG_PTR)PsGetCurrentProcessId());
    }
    RULE("IoSetHardErrorOrVerifyDevice function", "tells the IRP's thread which device is meant") {
        IoSetHardErrorOrVerifyDevice(irp, low);
        EXPECT(IoGetDeviceToVerify(PsGetCurrentThread()) == low);
        IoSetHardErrorOrVerifyDevice(irp, NULL);
        EXPECT(IoGetDeviceToVerify(PsGetCurrentThread()) == NULL);
    }
    RULE("IoSetThreadHardErrorMode function", "returns how it was, enabled at first") {
        EXPECT(IoSetThreadHardErrorMode(FALSE));
        EXPECT(!IoSetThreadHardErrorMode(TRUE));
        EXPECT(IoSetThreadHardErrorMode(TRUE));
    }
    RULE("IoRaiseHardError function", "a thread without hard errors: the IRP is completed with its status") {
        PIRP failed = received(keep);
        IoSetThreadHardErrorMode(FALSE);
        seen.calls = 0;
        failed->Tail.Overlay.Thread = PsGetCurrentThread();
        failed->IoStatus.Status = STATUS_DEVICE_NOT_READY;
        IoMarkIrpPending(failed);
        IoRaiseHardError(failed, NULL, low);
        for (int i = 0; i < 500 && !seen.calls; i++)
            sleep_us(1000);
        EXPECT_EQ(seen.calls, 1);
        EXPECT_STATUS(seen.status, STATUS_DEVICE_NOT_READY);
        IoSetThreadHardErrorMode(TRUE);
        IoFreeIrp(failed);
    }
    RULE("IoWithinStackLimits function", "nonzero where the whole region lies on the current stack") {
        ULONG_PTR here[4], bottom, top;
        IoGetStackLimits(&bottom, &top);
        EXPECT(IoWithinStackLimits((ULONG_PTR)here, sizeof(here)));
        EXPECT(!IoWithinStackLimits(top - 8, 16));
        EXPECT(!IoWithinStackLimits(bottom - 8, 16));
        EXPECT(!IoWithinStackLimits((ULONG_PTR)&seen, 8));
        EXPECT(!IoWithinStackLimits((ULONG_PTR)here, ~(SIZE_T)0));
    }
    IoFreeIrp(irp);
}

static BOOLEAN NTAPI no_isr(PKINTERRUPT interrupt, PVOID context)
{
    (void)interrupt;
    (void)context;
    return FALSE;
}

__declspec(dllimport) ULONG NTAPI HalGetInterruptVector(INTERFACE_TYPE type, ULONG bus, ULONG level, ULONG vector,
                                                        PKIRQL irql, PKAFFINITY affinity);

static void interrupt_affinity(void)
{
    KIRQL irql;
    KAFFINITY affinity;
    ULONG vector = HalGetInterruptVector(Isa, 0, 8, 8, &irql, &affinity);
    PKINTERRUPT interrupt = NULL;

    RULE("IoGetAffinityInterrupt function", "the processors that were given when it was connected") {
        GROUP_AFFINITY group = { 0, 9, { 0 } };
        EXPECT_STATUS(IoConnectInterrupt(&interrupt, no_isr, NULL, NULL, vector, irql, irql, Latched, FALSE, 1, FALSE),
                      STATUS_SUCCESS);
        EXPECT_STATUS(IoGetAffinityInterrupt(interrupt, &group), STATUS_SUCCESS);
        EXPECT_EQ(group.Mask, 1);
        EXPECT_EQ(group.Group, 0);
        IoDisconnectInterrupt(interrupt);
    }
}

static void files(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\??\\C:\\conformance.tmp");
    UNICODE_STRING volume_name = RTL_CONSTANT_STRING(L"\\Device\\HarddiskVolume1");
    UNICODE_STRING letter = { 0, 0, NULL };
    OBJECT_ATTRIBUTES attributes;
    IO_STATUS_BLOCK status;
    HANDLE file = NULL;

    InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
    RULE("IoCreateFile function", "creates a file as ZwCreateFile does; Information says what was done") {
        EXPECT_STATUS(IoCreateFile(&file, GENERIC_WRITE | SYNCHRONIZE | DELETE, &attributes, &status, NULL,
                                   FILE_ATTRIBUTE_NORMAL, 0, FILE_SUPERSEDE,
                                   FILE_SYNCHRONOUS_IO_NONALERT | FILE_DELETE_ON_CLOSE, NULL, 0, CreateFileTypeNone, NULL,
                                   IO_NO_PARAMETER_CHECKING),
                      STATUS_SUCCESS);
        EXPECT_EQ(status.Information, FILE_CREATED);
        EXPECT(file != NULL);
        EXPECT_STATUS(ZwWriteFile(file, NULL, NULL, NULL, &status, "abc", 3, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(status.Information, 3);
        EXPECT_STATUS(ZwClose(file), STATUS_SUCCESS);
    }
    RULE("IoCreateFile function", "FILE_OPEN fails where there is no such file") {
        EXPECT_STATUS(IoCreateFile(&file, GENERIC_READ | SYNCHRONIZE, &attributes, &status, NULL, 0, FILE_SHARE_READ, FILE_OPEN,
                                   FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0, CreateFileTypeNone, NULL, 0),
                      STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("IoVolumeDeviceToDosName function", "the drive letter of a volume, in a buffer that the caller frees") {
        PDEVICE_OBJECT device = NULL;
        PFILE_OBJECT object = NULL;
        EXPECT_STATUS(IoGetDeviceObjectPointer(&volume_name, FILE_READ_ATTRIBUTES, &object, &device), STATUS_SUCCESS);
        if (!object)
            continue;
        EXPECT_STATUS(IoVolumeDeviceToDosName(object->DeviceObject, &letter), STATUS_SUCCESS);
        EXPECT_EQ(letter.Length, 4);
        EXPECT(letter.Buffer && letter.Buffer[0] == 'C' && letter.Buffer[1] == ':');
        if (letter.Buffer)
            ExFreePool(letter.Buffer);
        ObDereferenceObject(object);
    }
    RULE("IoVolumeDeviceToDosName function", "fails for a device that is no volume") {
        EXPECT(!NT_SUCCESS(IoVolumeDeviceToDosName(low, &letter)));
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)path;
    self = driver;
    for (int i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        driver->MajorFunction[i] = dispatch;
    IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &low);
    IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &high);
    low->Flags &= ~DO_DEVICE_INITIALIZING;
    IoAttachDeviceToDeviceStack(high, low);
    high->Flags &= ~DO_DEVICE_INITIALIZING;
    associated();
    forwarding();
    held_completion();
    requestor();
    interrupt_affinity();
    files();
    IoDetachDevice(low);
    IoDeleteDevice(high);
    IoDeleteDevice(low);
}

SUITE("Io further")
