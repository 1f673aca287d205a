/* Device objects: creation, names, links, stacks, files, and the routines that find them. */
#include <check.h>

static PDRIVER_OBJECT self;

static UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\ConformanceSuite");
static UNICODE_STRING link_name = RTL_CONSTANT_STRING(L"\\DosDevices\\ConformanceSuite");
static UNICODE_STRING global_name = RTL_CONSTANT_STRING(L"\\??\\ConformanceSuite");

static struct {
    LONG creates, cleanups, closes, others;
    PFILE_OBJECT file;
} seen;

static NTSTATUS NTAPI dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    PIO_STACK_LOCATION stack = IoGetCurrentIrpStackLocation(irp);
    switch (stack->MajorFunction) {
    case IRP_MJ_CREATE:
        seen.creates++;
        seen.file = stack->FileObject;
        break;
    case IRP_MJ_CLEANUP:
        seen.cleanups++;
        break;
    case IRP_MJ_CLOSE:
        seen.closes++;
        break;
    default:
        seen.others++;
        break;
    }
    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static void driver_object(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    RULE("DRIVER_INITIALIZE callback function", "the driver object is filled in: type, image, name, service key") {
        EXPECT_EQ(driver->Type, IO_TYPE_DRIVER);
        EXPECT_EQ(driver->Size, sizeof(DRIVER_OBJECT));
        EXPECT(driver->DriverStart != NULL && driver->DriverSize >= PAGE_SIZE);
        EXPECT((PUCHAR)dispatch > (PUCHAR)driver->DriverStart &&
               (PUCHAR)dispatch < (PUCHAR)driver->DriverStart + driver->DriverSize);
        EXPECT(driver->DriverExtension != NULL);
        EXPECT(driver->DriverName.Length > 8 * sizeof(WCHAR));
        EXPECT(driver->DeviceObject == NULL);
    }
    RULE("DRIVER_INITIALIZE callback function", "the registry path is the service's key") {
        UNICODE_STRING prefix = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\");
        EXPECT(RtlPrefixUnicodeString(&prefix, path, TRUE));
        EXPECT(path->Length > prefix.Length);
    }
    RULE("DRIVER_OBJECT structure", "HardwareDatabase names the hardware key of the registry") {
        UNICODE_STRING prefix = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\Hardware");
        EXPECT(driver->HardwareDatabase != NULL);
        if (driver->HardwareDatabase)
            EXPECT(RtlPrefixUnicodeString(&prefix, driver->HardwareDatabase, TRUE));
    }
    RULE("Writing Dispatch Routines", "an entry that the driver did not set fails with STATUS_INVALID_DEVICE_REQUEST") {
        PDEVICE_OBJECT device = NULL;
        IO_STATUS_BLOCK block;
        KEVENT event;
        PIRP irp;
        KeInitializeEvent(&event, NotificationEvent, FALSE);
        IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
        device->Flags &= ~DO_DEVICE_INITIALIZING;
        irp = IoBuildSynchronousFsdRequest(IRP_MJ_FLUSH_BUFFERS, device, NULL, 0, NULL, &event, &block);
        EXPECT(irp != NULL);
        EXPECT_STATUS(IoCallDriver(device, irp), STATUS_INVALID_DEVICE_REQUEST);
        KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
        EXPECT_STATUS(block.Status, STATUS_INVALID_DEVICE_REQUEST);
        IoDeleteDevice(device);
    }
    RULE("IoAllocateDriverObjectExtension function", "zeroed memory by identifier; a second of the same is refused") {
        static int identifier;
        PUCHAR extension = NULL;
        PVOID again = (PVOID)1;
        EXPECT_STATUS(IoAllocateDriverObjectExtension(driver, &identifier, 100, (PVOID *)&extension), STATUS_SUCCESS);
        EXPECT(extension != NULL && bytes_are(extension, 0, 100));
        EXPECT(IoGetDriverObjectExtension(driver, &identifier) == extension);
        EXPECT(IoGetDriverObjectExtension(driver, &seen) == NULL);
        EXPECT_STATUS(IoAllocateDriverObjectExtension(driver, &identifier, 100, &again), STATUS_OBJECT_NAME_COLLISION);
        EXPECT(again == NULL);
    }
}

static void creation(void)
{
    PDEVICE_OBJECT device = NULL, second = NULL;

    RULE("IoCreateDevice function", "a device object with a zeroed extension, marked as being initialized") {
        EXPECT_STATUS(IoCreateDevice(self, 100, &name, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, &device),
                      STATUS_SUCCESS);
        EXPECT_EQ(device->Type, IO_TYPE_DEVICE);
        EXPECT(device->DriverObject == self);
        EXPECT(device->DeviceExtension != NULL && bytes_are(device->DeviceExtension, 0, 100));
        EXPECT_EQ((ULONG_PTR)device->DeviceExtension & 15, 0);
        EXPECT_EQ(device->DeviceType, FILE_DEVICE_UNKNOWN);
        EXPECT_EQ(device->Characteristics & FILE_DEVICE_SECURE_OPEN, FILE_DEVICE_SECURE_OPEN);
        EXPECT_EQ(device->StackSize, 1);
        EXPECT(device->Flags & DO_DEVICE_INITIALIZING);
        EXPECT(device->AttachedDevice == NULL);
        EXPECT(device->CurrentIrp == NULL);
    }
    RULE("IoCreateDevice function", "the object becomes the first of the driver's list") {
        EXPECT(self->DeviceObject == device);
        EXPECT_STATUS(IoCreateDevice(self, 0, NULL, FILE_DEVICE_NULL, 0, TRUE, &second), STATUS_SUCCESS);
        EXPECT(self->DeviceObject == second);
        EXPECT(second->NextDevice == device);
    }
    RULE("IoCreateDevice function", "exclusive devices carry DO_EXCLUSIVE, named ones DO_DEVICE_HAS_NAME") {
        EXPECT(second->Flags & DO_EXCLUSIVE);
        EXPECT(!(second->Flags & DO_DEVICE_HAS_NAME));
        EXPECT(device->Flags & DO_DEVICE_HAS_NAME);
        EXPECT(!(device->Flags & DO_EXCLUSIVE));
    }
    RULE("IoDeleteDevice function", "takes the object out of the driver's list") {
        IoDeleteDevice(second);
        EXPECT(self->DeviceObject == device);
        EXPECT(device->NextDevice == NULL);
    }
    RULE("IoCreateDevice function", "STATUS_OBJECT_NAME_COLLISION where the name is taken, whatever its case") {
        UNICODE_STRING other = RTL_CONSTANT_STRING(L"\\DEVICE\\CONFORMANCEsuite");
        second = (PDEVICE_OBJECT)1;
        EXPECT_STATUS(IoCreateDevice(self, 0, &other, FILE_DEVICE_UNKNOWN, 0, FALSE, &second),
                      STATUS_OBJECT_NAME_COLLISION);
    }
    RULE("IoCreateDevice function", "a name in a directory that does not exist is STATUS_OBJECT_PATH_NOT_FOUND") {
        UNICODE_STRING nowhere = RTL_CONSTANT_STRING(L"\\NoSuchDirectory\\Device0");
        EXPECT_STATUS(IoCreateDevice(self, 0, &nowhere, FILE_DEVICE_UNKNOWN, 0, FALSE, &second),
                      STATUS_OBJECT_PATH_NOT_FOUND);
    }
    RULE("IoCreateDevice function", "FILE_AUTOGENERATED_DEVICE_NAME gives a name that nobody has") {
        PDEVICE_OBJECT one = NULL;
        EXPECT_STATUS(IoCreateDevice(self, 0, NULL, FILE_DEVICE_UNKNOWN, FILE_AUTOGENERATED_DEVICE_NAME, FALSE, &one),
                      STATUS_SUCCESS);
        EXPECT(one->Flags & DO_DEVICE_HAS_NAME);
        IoDeleteDevice(one);
    }
    RULE("IoCreateSymbolicLink function", "makes a link; a second of that name is STATUS_OBJECT_NAME_COLLISION") {
        EXPECT_STATUS(IoCreateSymbolicLink(&link_name, &name), STATUS_SUCCESS);
        EXPECT_STATUS(IoCreateSymbolicLink(&link_name, &name), STATUS_OBJECT_NAME_COLLISION);
        EXPECT_STATUS(IoCreateSymbolicLink(&global_name, &name), STATUS_OBJECT_NAME_COLLISION);
    }
    RULE("IoCreateUnprotectedSymbolicLink function", "the same for a link that anybody may change") {
        UNICODE_STRING unprotected = RTL_CONSTANT_STRING(L"\\DosDevices\\ConformanceOther");
        EXPECT_STATUS(IoCreateUnprotectedSymbolicLink(&unprotected, &name), STATUS_SUCCESS);
        EXPECT_STATUS(IoDeleteSymbolicLink(&unprotected), STATUS_SUCCESS);
    }

    for (int i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
        self->MajorFunction[i] = dispatch;
    device->Flags &= ~DO_DEVICE_INITIALIZING;

    RULE("IoGetDeviceObjectPointer function", "opens the device and references a file object; the handle is closed") {
        PFILE_OBJECT file = NULL;
        PDEVICE_OBJECT found = NULL;
        RtlZeroMemory(&seen, sizeof(seen));
        EXPECT_STATUS(IoGetDeviceObjectPointer(&name, FILE_READ_DATA, &file, &found), STATUS_SUCCESS);
        EXPECT(found == device);
        EXPECT(file != NULL && file->DeviceObject == device);
        EXPECT(file == seen.file);
        EXPECT_EQ(seen.creates, 1);
        EXPECT_EQ(seen.cleanups, 1);
        EXPECT_EQ(seen.closes, 0);
        ObDereferenceObject(file);
        EXPECT_EQ(seen.closes, 1);
    }
    RULE("IoGetDeviceObjectPointer function", "follows a symbolic link") {
        PFILE_OBJECT file = NULL;
        PDEVICE_OBJECT found = NULL;
        EXPECT_STATUS(IoGetDeviceObjectPointer(&link_name, FILE_READ_DATA, &file, &found), STATUS_SUCCESS);
        EXPECT(found == device);
        ObDereferenceObject(file);
    }
    RULE("IoGetDeviceObjectPointer function", "STATUS_OBJECT_NAME_NOT_FOUND for a name that nobody has") {
        UNICODE_STRING nobody = RTL_CONSTANT_STRING(L"\\Device\\NoSuchDeviceAtAll");
        PFILE_OBJECT file;
        PDEVICE_OBJECT found;
        EXPECT_STATUS(IoGetDeviceObjectPointer(&nobody, FILE_READ_DATA, &file, &found), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("IoDeleteSymbolicLink function", "removes the link; a second time is STATUS_OBJECT_NAME_NOT_FOUND") {
        EXPECT_STATUS(IoDeleteSymbolicLink(&link_name), STATUS_SUCCESS);
        EXPECT_STATUS(IoDeleteSymbolicLink(&link_name), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    IoDeleteDevice(device);
    RULE("IoDeleteDevice function", "the name is free again") {
        EXPECT_STATUS(IoCreateDevice(self, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
        IoDeleteDevice(device);
    }
}

static void stacks(void)
{
    PDEVICE_OBJECT low = NULL, middle = NULL, high = NULL, attached;

    IoCreateDevice(self, 0, &name, FILE_DEVICE_SERIAL_PORT, FILE_REMOVABLE_MEDIA, FALSE, &low);
    IoCreateDevice(self, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &middle);
    IoCreateDevice(self, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &high);
    low->AlignmentRequirement = FILE_QUAD_ALIGNMENT;
    low->Flags = (low->Flags & ~DO_DEVICE_INITIALIZING) | DO_BUFFERED_IO;

    RULE("IoAttachDeviceToDeviceStack function", "returns the device that it attached to; the stack size grows by one") {
        EXPECT(IoAttachDeviceToDeviceStack(middle, low) == low);
        EXPECT(low->AttachedDevice == middle);
        EXPECT_EQ(middle->StackSize, 2);
    }
    RULE("IoAttachDeviceToDeviceStack function", "takes over the alignment requirement of the device below") {
        EXPECT_EQ(middle->AlignmentRequirement, FILE_QUAD_ALIGNMENT);
    }
    RULE("IoAttachDeviceToDeviceStack function", "NULL where the stack's top is still being initialized") {
        EXPECT(middle->Flags & DO_DEVICE_INITIALIZING);
        EXPECT(IoAttachDeviceToDeviceStack(high, low) == NULL);
        EXPECT(middle->AttachedDevice == NULL);
        middle->Flags &= ~DO_DEVICE_INITIALIZING;
    }
    RULE("IoAttachDeviceToDeviceStack function", "attaches to the top of the stack, whichever of its devices is named") {
        EXPECT(IoAttachDeviceToDeviceStack(high, low) == middle);
        EXPECT(middle->AttachedDevice == high);
        EXPECT_EQ(high->StackSize, 3);
        high->Flags &= ~DO_DEVICE_INITIALIZING;
    }
    RULE("IoGetAttachedDevice function", "the top of the stack") {
        EXPECT(IoGetAttachedDevice(low) == high);
        EXPECT(IoGetAttachedDevice(high) == high);
    }
    RULE("IoGetAttachedDeviceReference function", "the same with a reference") {
        PDEVICE_OBJECT top = IoGetAttachedDeviceReference(low);
        EXPECT(top == high);
        ObDereferenceObject(top);
    }
    RULE("IoGetLowerDeviceObject function", "the device below, with a reference; NULL below the lowest") {
        PDEVICE_OBJECT lower = IoGetLowerDeviceObject(high);
        EXPECT(lower == middle);
        if (lower)
            ObDereferenceObject(lower);
        EXPECT(IoGetLowerDeviceObject(low) == NULL);
    }
    RULE("IoGetDeviceAttachmentBaseRef function", "the lowest device of the stack, with a reference, of whichever device in it") {
        PDEVICE_OBJECT stack[] = { low, middle, high };
        for (int i = 0; i < 3; i++) {
            PDEVICE_OBJECT base = IoGetDeviceAttachmentBaseRef(stack[i]);
            EXPECT(base == low);
            if (base)
                ObDereferenceObject(base);
        }
    }
    RULE("IoGetDeviceObjectPointer function", "gives the top of the stack, and the file object of the named device") {
        PFILE_OBJECT file = NULL;
        PDEVICE_OBJECT found = NULL;
        EXPECT_STATUS(IoGetDeviceObjectPointer(&name, FILE_READ_DATA, &file, &found), STATUS_SUCCESS);
        EXPECT(found == high);
        EXPECT(file->DeviceObject == low);
        EXPECT(IoGetRelatedDeviceObject(file) == high);
        ObDereferenceObject(file);
    }
    RULE("IoDetachDevice function", "releases the attachment") {
        IoDetachDevice(middle);
        EXPECT(middle->AttachedDevice == NULL);
        EXPECT(IoGetAttachedDevice(low) == middle);
    }
    IoDetachDevice(low);
    RULE("IoAttachDeviceToDeviceStackSafe function", "stores the device below before anybody can call; STATUS_SUCCESS") {
        attached = NULL;
        EXPECT_STATUS(IoAttachDeviceToDeviceStackSafe(high, low, &attached), STATUS_SUCCESS);
        EXPECT(attached == low);
        IoDetachDevice(low);
    }
    RULE("IoAttachDevice function", "attaches by name and gives the device that was its top") {
        attached = NULL;
        EXPECT_STATUS(IoAttachDevice(high, &name, &attached), STATUS_SUCCESS);
        EXPECT(attached == low);
        EXPECT(IoGetAttachedDevice(low) == high);
        IoDetachDevice(attached);
    }
    RULE("IoAttachDevice function", "STATUS_OBJECT_NAME_NOT_FOUND for a name that nobody has") {
        UNICODE_STRING nobody = RTL_CONSTANT_STRING(L"\\Device\\NoSuchDeviceAtAll");
        EXPECT_STATUS(IoAttachDevice(high, &nobody, &attached), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("IoGetStackLimits function", "a local variable lies between them; the rest is less than the whole") {
        ULONG_PTR bottom, top;
        IoGetStackLimits(&bottom, &top);
        EXPECT((ULONG_PTR)&top > bottom && (ULONG_PTR)&top < top);
        EXPECT(IoGetRemainingStackSize() > 4096);
        EXPECT(IoGetRemainingStackSize() < top - bottom);
    }
    IoDeleteDevice(high);
    IoDeleteDevice(middle);
    IoDeleteDevice(low);
}

static struct {
    KEVENT ran;
    PDEVICE_OBJECT device;
    PVOID context;
    KIRQL irql;
    volatile LONG ticks;
} job;

static VOID NTAPI work(PDEVICE_OBJECT device, PVOID context)
{
    job.device = device;
    job.context = context;
    job.irql = KeGetCurrentIrql();
    KeSetEvent(&job.ran, 0, FALSE);
}

static VOID NTAPI tick(PDEVICE_OBJECT device, PVOID context)
{
    job.device = device;
    job.context = context;
    job.irql = KeGetCurrentIrql();
    InterlockedIncrement(&job.ticks);
}

static void services(void)
{
    PDEVICE_OBJECT device = NULL;
    LARGE_INTEGER soon = after_us(5000000);

    IoCreateDevice(self, 64, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    KeInitializeEvent(&job.ran, SynchronizationEvent, FALSE);
    RULE("IoQueueWorkItem function", "runs the routine at PASSIVE_LEVEL with the device and the context") {
        PIO_WORKITEM item = IoAllocateWorkItem(device);
        EXPECT(item != NULL);
        for (int i = 0; i < 2; i++) {
            KIRQL irql = KeRaiseIrqlToDpcLevel();
            job.irql = HIGH_LEVEL;
            IoQueueWorkItem(item, work, DelayedWorkQueue, &job);
            KeLowerIrql(irql);
            EXPECT_STATUS(KeWaitForSingleObject(&job.ran, Executive, KernelMode, FALSE, &soon), STATUS_SUCCESS);
            EXPECT(job.device == device && job.context == &job);
            EXPECT_EQ(job.irql, PASSIVE_LEVEL);
        }
        IoFreeWorkItem(item);
    }
    RULE("IoStartTimer function", "calls the timer routine about once a second at DISPATCH_LEVEL") {
        job.ticks = 0;
        EXPECT_STATUS(IoInitializeTimer(device, tick, &job), STATUS_SUCCESS);
        IoStartTimer(device);
        for (int i = 0; i < 250 && !job.ticks; i++)
            sleep_us(10000);
        IoStopTimer(device);
        EXPECT(job.ticks >= 1 && job.ticks <= 3);
        EXPECT_EQ(job.irql, DISPATCH_LEVEL);
        EXPECT(job.device == device && job.context == &job);
    }
    RULE("IoGetConfigurationInformation function", "one structure for the whole system") {
        PCONFIGURATION_INFORMATION one = IoGetConfigurationInformation();
        EXPECT(one != NULL && one == IoGetConfigurationInformation());
        ULONG before = one->SerialCount;
        one->SerialCount++;
        EXPECT_EQ(IoGetConfigurationInformation()->SerialCount, before + 1);
        one->SerialCount--;
    }
    RULE("IoAllocateErrorLogEntry function", "an entry up to ERROR_LOG_MAXIMUM_SIZE, none above") {
        PIO_ERROR_LOG_PACKET packet = IoAllocateErrorLogEntry(device, sizeof(IO_ERROR_LOG_PACKET));
        EXPECT(packet != NULL);
        EXPECT(bytes_are(packet, 0, sizeof(*packet)));
        IoWriteErrorLogEntry(packet);
        EXPECT(IoAllocateErrorLogEntry(self, 255) == NULL);
        packet = IoAllocateErrorLogEntry(self, sizeof(IO_ERROR_LOG_PACKET));
        EXPECT(packet != NULL);
        IoFreeErrorLogEntry(packet);
    }
    RULE("IoCreateController function", "a controller object with a zeroed extension") {
        PCONTROLLER_OBJECT controller = IoCreateController(48);
        EXPECT(controller != NULL);
        EXPECT(controller->ControllerExtension != NULL && bytes_are(controller->ControllerExtension, 0, 48));
        IoDeleteController(controller);
    }
    RULE("IoIsWdmVersionAvailable function", "1.0 to 1.0x30 are, a later one is not") {
        EXPECT(IoIsWdmVersionAvailable(1, 0x10));
        EXPECT(IoIsWdmVersionAvailable(1, 0x20));
        EXPECT(!IoIsWdmVersionAvailable(7, 0));
    }
    RULE("IoGetCurrentProcess function", "the system process in a system thread") {
        EXPECT(IoGetCurrentProcess() != NULL);
        EXPECT(IoGetCurrentProcess() == PsGetCurrentProcess());
        EXPECT((PVOID)IoGetCurrentProcess() == (PVOID)PsInitialSystemProcess);
    }
    IoDeleteDevice(device);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    self = driver;
    driver_object(driver, path);
    creation();
    stacks();
    services();
}

SUITE("Io devices")
