/* A driver's own device behind handles: what its dispatch routines get of opens, transfers, control requests and closes. */
#include <check.h>

#define NAME L"\\Device\\ConformOpen"
#define CONTROL_BUFFERED CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)
#define CONTROL_FAST CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)

static PDEVICE_OBJECT device;
static UNICODE_STRING string;

/* What the last request of each kind was, and which came in which order. */
static struct {
    UCHAR order[16];
    unsigned count;
    PFILE_OBJECT file;
    PFILE_OBJECT related;
    USHORT name_length;
    WCHAR name[16];
    ULONG file_flags;
    UCHAR location_flags;
    ULONG irp_flags;
    ULONG options;
    ACCESS_MASK desired;
    USHORT share;
    USHORT attributes;
    ULONG extended;
    PVOID system_buffer;
    PVOID user_buffer;
    PMDL mdl;
    ULONG length;
    ULONG key;
    LONGLONG offset;
    PETHREAD thread;
    KPROCESSOR_MODE mode;
    LONGLONG allocation;
    PVOID fs_context;
} seen;

/* What the next read or control request is to do. */
static NTSTATUS answer_status;
static ULONG_PTR answer_information;
static BOOLEAN answer_later;
static PIRP later;
static LONG inside, most_inside;
static BOOLEAN cancelable;
static unsigned cancellations;
static unsigned fast_calls;
static NTSTATUS create_status;

static NTSTATUS done(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static void note(PIRP irp)
{
    PIO_STACK_LOCATION at = IoGetCurrentIrpStackLocation(irp);
    if (seen.count < sizeof(seen.order))
        seen.order[seen.count++] = at->MajorFunction;
    seen.file = at->FileObject;
    seen.location_flags = at->Flags;
    seen.irp_flags = irp->Flags;
    seen.system_buffer = irp->AssociatedIrp.SystemBuffer;
    seen.user_buffer = irp->UserBuffer;
    seen.mdl = irp->MdlAddress;
    seen.thread = irp->Tail.Overlay.Thread;
    seen.mode = irp->RequestorMode;
}

static NTSTATUS NTAPI create(PDEVICE_OBJECT object, PIRP irp)
{
    PIO_STACK_LOCATION at = IoGetCurrentIrpStackLocation(irp);
    PFILE_OBJECT file = at->FileObject;
    (void)object;
    note(irp);
    seen.related = file->RelatedFileObject;
    seen.name_length = file->FileName.Length;
    RtlCopyMemory(seen.name, file->FileName.Buffer, file->FileName.Length < 30 ? file->FileName.Length : 30);
    seen.file_flags = file->Flags;
    seen.options = at->Parameters.Create.Options;
    seen.desired = at->Parameters.Create.SecurityContext->DesiredAccess;
    seen.share = at->Parameters.Create.ShareAccess;
    seen.attributes = at->Parameters.Create.FileAttributes;
    seen.extended = at->Parameters.Create.EaLength;
    seen.allocation = irp->Overlay.AllocationSize.QuadPart;
    file->FsContext = &seen;
    return done(irp, create_status, FILE_OPENED);
}

static NTSTATUS NTAPI plain(PDEVICE_OBJECT object, PIRP irp)
{
    (void)object;
    note(irp);
    seen.fs_context = IoGetCurrentIrpStackLocation(irp)->FileObject->FsContext;
    return done(irp, STATUS_SUCCESS, 0);
}

static VOID NTAPI cancelled(PDEVICE_OBJECT object, PIRP irp)
{
    (void)object;
    IoReleaseCancelSpinLock(irp->CancelIrql);
    InterlockedDecrement(&inside);
    cancellations++;
    done(irp, STATUS_CANCELLED, 0);
}

static NTSTATUS NTAPI transfer(PDEVICE_OBJECT object, PIRP irp)
{
    PIO_STACK_LOCATION at = IoGetCurrentIrpStackLocation(irp);
    LONG now = InterlockedIncrement(&inside);
    (void)object;
    if (now > most_inside)
        most_inside = now;
    note(irp);
    seen.length = at->Parameters.Read.Length;
    seen.key = at->Parameters.Read.Key;
    seen.offset = at->Parameters.Read.ByteOffset.QuadPart;
    if (answer_later) {
        IoMarkIrpPending(irp);
        if (cancelable)
            IoSetCancelRoutine(irp, cancelled);
        later = irp;
        return STATUS_PENDING;
    }
    if (at->MajorFunction == IRP_MJ_READ && seen.system_buffer)
        RtlFillMemory(seen.system_buffer, seen.length, 'r');
    if (most_inside > 0 && seen.key == 77)
        sleep_us(2000);
    InterlockedDecrement(&inside);
    return done(irp, answer_status, answer_information);
}

static NTSTATUS NTAPI control(PDEVICE_OBJECT object, PIRP irp)
{
    PIO_STACK_LOCATION at = IoGetCurrentIrpStackLocation(irp);
    (void)object;
    note(irp);
    if (seen.system_buffer)
        RtlFillMemory(seen.system_buffer, at->Parameters.DeviceIoControl.OutputBufferLength, 'c');
    return done(irp, answer_status, answer_information);
}

static BOOLEAN NTAPI fast_control(PFILE_OBJECT file, BOOLEAN wait, PVOID input, ULONG input_length, PVOID output,
                                  ULONG output_length, ULONG code, PIO_STATUS_BLOCK status, PDEVICE_OBJECT object)
{
    fast_calls++;
    if (code != CONTROL_FAST)
        return FALSE;
    (void)input;
    (void)output;
    status->Status = wait && object == device && file->FsContext == &seen ? STATUS_SUCCESS : STATUS_UNSUCCESSFUL;
    status->Information = input_length * 100 + output_length;
    return TRUE;
}

static OBJECT_ATTRIBUTES *named(HANDLE root, PCWSTR name, ULONG flags)
{
    static OBJECT_ATTRIBUTES attributes;
    RtlInitUnicodeString(&string, name);
    InitializeObjectAttributes(&attributes, &string, flags | OBJ_KERNEL_HANDLE, root, NULL);
    return &attributes;
}

static NTSTATUS open(HANDLE *file, PCWSTR name, ULONG options)
{
    IO_STATUS_BLOCK io;
    return ZwCreateFile(file, GENERIC_READ | GENERIC_WRITE | SYNCHRONIZE, named(NULL, name, OBJ_CASE_INSENSITIVE), &io, NULL,
                        FILE_ATTRIBUTE_NORMAL, FILE_SHARE_READ, FILE_OPEN, options, NULL, 0);
}

static void forget(void)
{
    RtlZeroMemory(&seen, sizeof(seen));
    answer_status = STATUS_SUCCESS;
    answer_information = 0;
}

static void opening(void)
{
    HANDLE file, second;
    IO_STATUS_BLOCK io;

    RULE("IRP_MJ_CREATE", "the file object has what follows the device's name; FsContext is the driver's") {
        forget();
        EXPECT_STATUS(open(&file, NAME L"\\part", FILE_SYNCHRONOUS_IO_NONALERT), STATUS_SUCCESS);
        EXPECT_EQ(seen.name_length, 10);
        EXPECT_EQ(seen.name[0], L'\\');
        EXPECT_EQ(seen.related, NULL);
        ZwClose(file);
        EXPECT_EQ(seen.fs_context, &seen);
    }
    RULE("IRP_MJ_CREATE", "a backslash alone behind the device's name is a name too; without one there is none") {
        forget();
        EXPECT_STATUS(open(&file, NAME L"\\", 0), STATUS_SUCCESS);
        EXPECT_EQ(seen.name_length, 2);
        ZwClose(file);
        EXPECT_STATUS(open(&file, NAME, 0), STATUS_SUCCESS);
        EXPECT_EQ(seen.name_length, 0);
        ZwClose(file);
    }
    RULE("IRP_MJ_CREATE", "Parameters.Create: access, disposition with options, share access, attributes") {
        forget();
        EXPECT_STATUS(open(&file, NAME, FILE_SYNCHRONOUS_IO_NONALERT | FILE_NON_DIRECTORY_FILE), STATUS_SUCCESS);
        EXPECT_EQ(seen.options, FILE_OPEN << 24 | FILE_SYNCHRONOUS_IO_NONALERT | FILE_NON_DIRECTORY_FILE);
        EXPECT_EQ(seen.desired, FILE_GENERIC_READ | FILE_GENERIC_WRITE);
        EXPECT_EQ(seen.share, FILE_SHARE_READ);
        EXPECT_EQ(seen.attributes, FILE_ATTRIBUTE_NORMAL);
        EXPECT_EQ(seen.mode, KernelMode);
        EXPECT_EQ(seen.thread, PsGetCurrentThread());
        ZwClose(file);
    }
    RULE("FILE_OBJECT structure", "Flags say how it was opened; FO_HANDLE_CREATED once there is a handle") {
        forget();
        EXPECT_STATUS(open(&file, NAME, FILE_SYNCHRONOUS_IO_ALERT | FILE_WRITE_THROUGH | FILE_SEQUENTIAL_ONLY), STATUS_SUCCESS);
        EXPECT_EQ(seen.file_flags, FO_SYNCHRONOUS_IO | FO_ALERTABLE_IO | FO_WRITE_THROUGH | FO_SEQUENTIAL_ONLY);
        EXPECT(seen.file->Flags & FO_HANDLE_CREATED);
        ZwClose(file);
        EXPECT_STATUS(open(&file, NAME, FILE_NO_INTERMEDIATE_BUFFERING | FILE_RANDOM_ACCESS), STATUS_SUCCESS);
        EXPECT_EQ(seen.file_flags, FO_NO_INTERMEDIATE_BUFFERING | FO_RANDOM_ACCESS);
        ZwClose(file);
    }
    RULE("InitializeObjectAttributes macro", "without OBJ_CASE_INSENSITIVE the create is case-sensitive") {
        forget();
        EXPECT_STATUS(ZwOpenFile(&file, GENERIC_READ, named(NULL, NAME, 0), &io, 0, 0), STATUS_SUCCESS);
        EXPECT(seen.location_flags & SL_CASE_SENSITIVE);
        EXPECT_EQ(seen.file_flags, FO_OPENED_CASE_SENSITIVE);
        ZwClose(file);
        EXPECT_STATUS(open(&file, NAME, 0), STATUS_SUCCESS);
        EXPECT(!(seen.location_flags & SL_CASE_SENSITIVE));
        ZwClose(file);
    }
    RULE("ZwCreateFile function", "a name in RootDirectory is relative to that file, which the driver sees as RelatedFileObject") {
        PFILE_OBJECT root = NULL;
        forget();
        EXPECT_STATUS(open(&file, NAME L"\\top", 0), STATUS_SUCCESS);
        ObReferenceObjectByHandle(file, 0, *IoFileObjectType, KernelMode, (PVOID *)&root, NULL);
        EXPECT_STATUS(ZwOpenFile(&second, GENERIC_READ, named(file, L"below", OBJ_CASE_INSENSITIVE), &io, 0, 0), STATUS_SUCCESS);
        EXPECT_EQ(seen.related, root);
        EXPECT_EQ(seen.name_length, 10);
        EXPECT_EQ(seen.name[0], L'b');
        ZwClose(second);
        EXPECT_STATUS(ZwOpenFile(&second, GENERIC_READ, named(file, L"\\below", OBJ_CASE_INSENSITIVE), &io, 0, 0),
                      STATUS_OBJECT_NAME_INVALID);
        ObDereferenceObject(root);
        ZwClose(file);
    }
    RULE("ZwCreateFile function", "extended attributes come in the system buffer, the allocation size in the packet") {
        struct {
            FILE_FULL_EA_INFORMATION ea;
            CHAR rest[16];
        } extended;
        LARGE_INTEGER room = { .QuadPart = 0x12345 };
        RtlZeroMemory(&extended, sizeof(extended));
        extended.ea.EaNameLength = 1;
        extended.ea.EaName[0] = 'N';
        forget();
        EXPECT_STATUS(ZwCreateFile(&file, GENERIC_READ, named(NULL, NAME, OBJ_CASE_INSENSITIVE), &io, &room, 0, 0, FILE_CREATE, 0,
                                   &extended, sizeof(extended)), STATUS_SUCCESS);
        EXPECT_EQ(seen.extended, sizeof(extended));
        EXPECT(seen.system_buffer != NULL && seen.system_buffer != &extended);
        EXPECT_EQ(seen.allocation, 0x12345);
        ZwClose(file);
    }
    RULE("ZwClose function", "the last handle sends IRP_MJ_CLEANUP, the last reference IRP_MJ_CLOSE") {
        PFILE_OBJECT object = NULL;
        forget();
        EXPECT_STATUS(open(&file, NAME, 0), STATUS_SUCCESS);
        ObReferenceObjectByHandle(file, 0, *IoFileObjectType, KernelMode, (PVOID *)&object, NULL);
        EXPECT_STATUS(ZwClose(file), STATUS_SUCCESS);
        EXPECT_EQ(seen.count, 2);
        EXPECT(seen.order[0] == IRP_MJ_CREATE && seen.order[1] == IRP_MJ_CLEANUP);
        EXPECT(object->Flags & FO_CLEANUP_COMPLETE);
        ObDereferenceObject(object);
        EXPECT_EQ(seen.count, 3);
        EXPECT_EQ(seen.order[2], IRP_MJ_CLOSE);
        EXPECT(seen.irp_flags & IRP_CLOSE_OPERATION);
    }
    RULE("IRP_MJ_CREATE", "a create that fails is neither cleaned up nor closed") {
        forget();
        create_status = STATUS_DEVICE_NOT_READY;
        EXPECT_STATUS(open(&file, NAME, 0), STATUS_DEVICE_NOT_READY);
        create_status = STATUS_SUCCESS;
        EXPECT_EQ(seen.count, 1);
        EXPECT_EQ(device->ReferenceCount, 0);
    }
    RULE("IoGetDeviceObjectPointer function", "opens for the access that is asked for; the handle is closed at once") {
        PFILE_OBJECT object;
        PDEVICE_OBJECT found;
        forget();
        named(NULL, NAME, 0);
        EXPECT_STATUS(IoGetDeviceObjectPointer(&string, FILE_READ_DATA, &object, &found), STATUS_SUCCESS);
        EXPECT_EQ(found, device);
        EXPECT_EQ(seen.desired & (FILE_READ_DATA | FILE_WRITE_DATA), FILE_READ_DATA);
        EXPECT(seen.count == 2 && seen.order[1] == IRP_MJ_CLEANUP);
        EXPECT_EQ(device->ReferenceCount, 1);
        ObDereferenceObject(object);
        EXPECT(seen.count == 3 && seen.order[2] == IRP_MJ_CLOSE);
        EXPECT_EQ(device->ReferenceCount, 0);
    }
}

static void transfers(void)
{
    HANDLE file, event;
    PKEVENT signal = NULL;
    IO_STATUS_BLOCK io;
    LARGE_INTEGER offset, now = { .QuadPart = 0 };
    ULONG key = 5;
    char buffer[16];

    if (!NT_SUCCESS(open(&file, NAME, FILE_SYNCHRONOUS_IO_NONALERT | FILE_WRITE_THROUGH)))
        return;
    RULE("ZwReadFile function", "buffered: Information bytes come from the system buffer, no more") {
        forget();
        answer_information = 4;
        offset.QuadPart = 0x1000;
        RtlFillMemory(buffer, sizeof(buffer), '-');
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, sizeof(buffer), &offset, &key), STATUS_SUCCESS);
        EXPECT(bytes_are(buffer, 'r', 4) && bytes_are(buffer + 4, '-', 12));
        EXPECT_EQ(io.Information, 4);
        EXPECT(seen.length == 16 && seen.offset == 0x1000 && seen.key == 5);
        EXPECT(seen.system_buffer != buffer && seen.user_buffer == buffer && !seen.mdl);
        EXPECT(seen.irp_flags & IRP_BUFFERED_IO);
        EXPECT(seen.irp_flags & IRP_INPUT_OPERATION);
    }
    RULE("ZwReadFile function", "a warning copies too, an error does not") {
        forget();
        answer_status = STATUS_BUFFER_OVERFLOW;
        answer_information = 4;
        RtlFillMemory(buffer, sizeof(buffer), '-');
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, sizeof(buffer), &offset, NULL), STATUS_BUFFER_OVERFLOW);
        EXPECT(bytes_are(buffer, 'r', 4));
        answer_status = STATUS_DEVICE_NOT_READY;
        RtlFillMemory(buffer, sizeof(buffer), '-');
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, sizeof(buffer), &offset, NULL), STATUS_DEVICE_NOT_READY);
        EXPECT(bytes_are(buffer, '-', 16));
    }
    RULE("ZwReadFile function", "no bytes: the request goes to the driver, without a buffer") {
        forget();
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, 0, &offset, NULL), STATUS_SUCCESS);
        EXPECT_EQ(seen.count, 1);
        EXPECT(!seen.system_buffer && !seen.mdl && seen.length == 0);
    }
    RULE("ZwWriteFile function", "a file opened with FILE_WRITE_THROUGH: SL_WRITE_THROUGH in the location") {
        forget();
        EXPECT_STATUS(ZwWriteFile(file, NULL, NULL, NULL, &io, buffer, 3, &offset, NULL), STATUS_SUCCESS);
        EXPECT(seen.location_flags & SL_WRITE_THROUGH);
        EXPECT(seen.irp_flags & IRP_WRITE_OPERATION);
    }
    RULE("ZwReadFile function", "FILE_USE_FILE_POINTER_POSITION, or no offset: the position of a synchronous file") {
        FILE_POSITION_INFORMATION position = { { .QuadPart = 0x77 } };
        forget();
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &position, sizeof(position), FilePositionInformation), STATUS_SUCCESS);
        EXPECT_EQ(seen.count, 0);
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, 1, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(seen.offset, 0x77);
        offset.HighPart = -1;
        offset.LowPart = FILE_USE_FILE_POINTER_POSITION;
        seen.offset = 0;
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, 1, &offset, NULL), STATUS_SUCCESS);
        EXPECT_EQ(seen.offset, 0x77);
    }
    RULE("ZwReadFile function", "an offset before the beginning is STATUS_INVALID_PARAMETER, and the driver is not asked") {
        forget();
        offset.QuadPart = -5;
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, 1, &offset, NULL), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(ZwWriteFile(file, NULL, NULL, NULL, &io, buffer, 1, &offset, NULL), STATUS_INVALID_PARAMETER);
        EXPECT_EQ(seen.count, 0);
    }
    RULE("ZwQueryInformationFile function", "FileModeInformation, FileAccessInformation and FileAlignmentInformation") {
        FILE_MODE_INFORMATION mode;
        FILE_ACCESS_INFORMATION access;
        FILE_ALIGNMENT_INFORMATION alignment;
        forget();
        device->AlignmentRequirement = FILE_QUAD_ALIGNMENT;
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &mode, sizeof(mode), FileModeInformation), STATUS_SUCCESS);
        EXPECT_EQ(mode.Mode, FILE_SYNCHRONOUS_IO_NONALERT | FILE_WRITE_THROUGH);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &access, sizeof(access), FileAccessInformation), STATUS_SUCCESS);
        EXPECT_EQ(access.AccessFlags, FILE_GENERIC_READ | FILE_GENERIC_WRITE);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &alignment, sizeof(alignment), FileAlignmentInformation), STATUS_SUCCESS);
        EXPECT_EQ(alignment.AlignmentRequirement, FILE_QUAD_ALIGNMENT);
        EXPECT_EQ(seen.count, 0);
        device->AlignmentRequirement = 0;
    }
    RULE("ZwQueryInformationFile function", "STATUS_INVALID_INFO_CLASS and STATUS_INFO_LENGTH_MISMATCH without asking the driver") {
        forget();
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, buffer, sizeof(buffer), 9999), STATUS_INVALID_INFO_CLASS);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, buffer, 4, FileStandardInformation), STATUS_INFO_LENGTH_MISMATCH);
        EXPECT_EQ(seen.count, 0);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, buffer, sizeof(buffer), FileInternalInformation), STATUS_INVALID_DEVICE_REQUEST);
    }
    ZwClose(file);

    if (!NT_SUCCESS(open(&file, NAME, 0)))
        return;
    ZwCreateEvent(&event, EVENT_ALL_ACCESS, NULL, NotificationEvent, TRUE);
    ObReferenceObjectByHandle(event, 0, *ExEventObjectType, KernelMode, (PVOID *)&signal, NULL);
    RULE("ZwReadFile function", "without an offset on a file that is not synchronous: STATUS_INVALID_PARAMETER") {
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, 1, NULL, NULL), STATUS_INVALID_PARAMETER);
    }
    RULE("ZwReadFile function", "STATUS_PENDING: the event is cleared, and signaled with the status block at the end") {
        forget();
        answer_later = TRUE;
        offset.QuadPart = 0;
        io.Information = 99;
        EXPECT_STATUS(ZwReadFile(file, event, NULL, NULL, &io, buffer, 8, &offset, NULL), STATUS_PENDING);
        EXPECT(!KeReadStateEvent(signal));
        EXPECT_EQ(io.Information, 99);
        InterlockedDecrement(&inside);
        done(later, STATUS_SUCCESS, 8);
        EXPECT(KeReadStateEvent(signal));
        EXPECT(io.Status == STATUS_SUCCESS && io.Information == 8);
    }
    RULE("ZwReadFile function", "without an event the file itself is signaled") {
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, 8, &offset, NULL), STATUS_PENDING);
        EXPECT_STATUS(ZwWaitForSingleObject(file, FALSE, &now), STATUS_TIMEOUT);
        InterlockedDecrement(&inside);
        done(later, STATUS_SUCCESS, 8);
        EXPECT_STATUS(ZwWaitForSingleObject(file, FALSE, &now), STATUS_SUCCESS);
    }
    RULE("ZwCancelIoFile function", "cancels what this thread has asked of the file, and returns when that is complete") {
        IO_STATUS_BLOCK second, third;
        forget();
        cancelable = TRUE;
        EXPECT_STATUS(ZwReadFile(file, event, NULL, NULL, &io, buffer, 8, &offset, NULL), STATUS_PENDING);
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &second, buffer, 8, &offset, NULL), STATUS_PENDING);
        EXPECT_STATUS(ZwCancelIoFile(file, &third), STATUS_SUCCESS);
        EXPECT_EQ(cancellations, 2);
        EXPECT(KeReadStateEvent(signal));
        EXPECT_STATUS(io.Status, STATUS_CANCELLED);
        EXPECT_STATUS(second.Status, STATUS_CANCELLED);
        EXPECT_STATUS(ZwCancelIoFile(file, &third), STATUS_SUCCESS);
        EXPECT_EQ(cancellations, 2);
        cancelable = FALSE;
    }
    RULE("IRP_MJ_CLOSE", "is not sent before the file's last request is complete") {
        forget();
        EXPECT_STATUS(ZwReadFile(file, event, NULL, NULL, &io, buffer, 8, &offset, NULL), STATUS_PENDING);
        ZwClose(file);
        EXPECT(seen.count == 2 && seen.order[1] == IRP_MJ_CLEANUP);
        InterlockedDecrement(&inside);
        done(later, STATUS_CANCELLED, 0);
        EXPECT(seen.count == 3 && seen.order[2] == IRP_MJ_CLOSE);
        EXPECT(KeReadStateEvent(signal));
        EXPECT_STATUS(io.Status, STATUS_CANCELLED);
    }
    answer_later = FALSE;
    ObDereferenceObject(signal);
    ZwClose(event);
}

static HANDLE shared;

static VOID NTAPI reader(PVOID context)
{
    IO_STATUS_BLOCK io;
    LARGE_INTEGER offset = { .QuadPart = 0 };
    ULONG key = 77;
    char buffer[8];
    int times;
    (void)context;
    for (times = 0; times < 5; times++)
        ZwReadFile(shared, NULL, NULL, NULL, &io, buffer, 8, &offset, &key);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void serially(PDRIVER_OBJECT driver)
{
    static FAST_IO_DISPATCH fast = { .SizeOfFastIoDispatch = sizeof(fast), .FastIoDeviceControl = fast_control };
    HANDLE file;
    IO_STATUS_BLOCK io;
    char buffer[16];

    RULE("FILE_SYNCHRONOUS_IO_NONALERT", "requests of several threads on one synchronous file come one after another") {
        PKTHREAD threads[3];
        int index;
        forget();
        most_inside = 0;
        if (!EXPECT(NT_SUCCESS(open(&shared, NAME, FILE_SYNCHRONOUS_IO_NONALERT))))
            continue;
        for (index = 0; index < 3; index++)
            threads[index] = start_thread(reader, NULL);
        for (index = 0; index < 3; index++)
            join_thread(threads[index]);
        EXPECT_EQ(seen.count, 1 + 15);
        EXPECT_EQ(most_inside, 1);
        ZwClose(shared);
    }
    if (!NT_SUCCESS(open(&file, NAME, FILE_SYNCHRONOUS_IO_NONALERT)))
        return;
    RULE("ZwDeviceIoControlFile function", "buffered: as many bytes come back as Information says") {
        forget();
        answer_information = 3;
        RtlFillMemory(buffer, sizeof(buffer), '-');
        EXPECT_STATUS(ZwDeviceIoControlFile(file, NULL, NULL, NULL, &io, CONTROL_BUFFERED, "in", 2, buffer, 8), STATUS_SUCCESS);
        EXPECT(bytes_are(buffer, 'c', 3) && bytes_are(buffer + 3, '-', 13));
        EXPECT_EQ(seen.order[0], IRP_MJ_DEVICE_CONTROL);
    }
    RULE("FAST_IO_DISPATCH structure", "FastIoDeviceControl is asked first; TRUE is the end of the request") {
        driver->FastIoDispatch = &fast;
        forget();
        fast_calls = 0;
        EXPECT_STATUS(ZwDeviceIoControlFile(file, NULL, NULL, NULL, &io, CONTROL_FAST, buffer, 2, buffer, 8), STATUS_SUCCESS);
        EXPECT(fast_calls == 1 && seen.count == 0);
        EXPECT_EQ(io.Information, 208);
    }
    RULE("FAST_IO_DISPATCH structure", "FALSE: the request comes as a packet") {
        EXPECT_STATUS(ZwDeviceIoControlFile(file, NULL, NULL, NULL, &io, CONTROL_BUFFERED, buffer, 2, buffer, 8), STATUS_SUCCESS);
        EXPECT(fast_calls == 2 && seen.count == 1);
        driver->FastIoDispatch = NULL;
    }
    ZwClose(file);
    RULE("Using Direct I/O", "DO_DIRECT_IO: an MDL for the caller's buffer; the offset and length as they were given") {
        LARGE_INTEGER offset = { .QuadPart = 9 };
        device->Flags = (device->Flags & ~DO_BUFFERED_IO) | DO_DIRECT_IO;
        forget();
        if (!EXPECT(NT_SUCCESS(open(&file, NAME, FILE_SYNCHRONOUS_IO_NONALERT))))
            continue;
        EXPECT_STATUS(ZwWriteFile(file, NULL, NULL, NULL, &io, buffer, 5, &offset, NULL), STATUS_SUCCESS);
        EXPECT(seen.mdl != NULL && seen.system_buffer == NULL);
        EXPECT(seen.length == 5 && seen.offset == 9);
        ZwClose(file);
    }
    RULE("IoCreateDevice function", "Exclusive: a second open is STATUS_ACCESS_DENIED, one relative to the first is not") {
        HANDLE second;
        device->Flags |= DO_EXCLUSIVE;
        if (!EXPECT(NT_SUCCESS(open(&file, NAME, 0))))
            continue;
        EXPECT_STATUS(open(&second, NAME, 0), STATUS_ACCESS_DENIED);
        EXPECT_STATUS(ZwOpenFile(&second, GENERIC_READ, named(file, L"", OBJ_CASE_INSENSITIVE), &io, 0, 0), STATUS_SUCCESS);
        ZwClose(second);
        ZwClose(file);
        EXPECT_STATUS(open(&file, NAME, 0), STATUS_SUCCESS);
        ZwClose(file);
    }
}

static unsigned completions;
static UCHAR control_left, major_left;

static NTSTATUS NTAPI look_back(PDEVICE_OBJECT object, PIRP irp, PVOID context)
{
    PIO_STACK_LOCATION left = IoGetNextIrpStackLocation(irp);
    (void)object;
    (void)context;
    completions++;
    control_left = left->Control;
    major_left = left->MajorFunction;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static void packets(void)
{
    RULE("IoCompleteRequest macro", "a location that completion has come past is cleared: its routine is not called again") {
        PIRP irp = IoAllocateIrp(1, FALSE);
        PIO_STACK_LOCATION at;
        if (!EXPECT(irp != NULL))
            continue;
        forget();
        at = IoGetNextIrpStackLocation(irp);
        at->MajorFunction = IRP_MJ_READ;
        at->MinorFunction = 3;
        at->Parameters.Read.Length = 0;
        IoSetCompletionRoutine(irp, look_back, NULL, TRUE, TRUE, TRUE);
        EXPECT_STATUS(IoCallDriver(device, irp), STATUS_SUCCESS);
        EXPECT_EQ(completions, 1);
        EXPECT_EQ(control_left, 0);
        EXPECT_EQ(major_left, IRP_MJ_READ);
        EXPECT_EQ(at->MinorFunction, 0);
        IoFreeIrp(irp);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    UNICODE_STRING name;
    (void)path;
    RtlInitUnicodeString(&name, NAME);
    driver->MajorFunction[IRP_MJ_CREATE] = create;
    driver->MajorFunction[IRP_MJ_CLEANUP] = plain;
    driver->MajorFunction[IRP_MJ_CLOSE] = plain;
    driver->MajorFunction[IRP_MJ_READ] = transfer;
    driver->MajorFunction[IRP_MJ_WRITE] = transfer;
    driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = control;
    if (!NT_SUCCESS(IoCreateDevice(driver, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device)))
        return;
    device->Flags |= DO_BUFFERED_IO;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    opening();
    transfers();
    serially(driver);
    packets();
    IoDeleteDevice(device);
}

SUITE("Io opens")
