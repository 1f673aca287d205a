/* Files in the file system, events with a name, drivers that load drivers, and shutdown. */
#include <check.h>

static OBJECT_ATTRIBUTES attributes;
static UNICODE_STRING string;

static OBJECT_ATTRIBUTES *named(PCWSTR name)
{
    RtlInitUnicodeString(&string, name);
    InitializeObjectAttributes(&attributes, &string, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    return &attributes;
}

static NTSTATUS create(HANDLE *file, PCWSTR name, ACCESS_MASK access, ULONG share, ULONG disposition, IO_STATUS_BLOCK *io)
{
    return ZwCreateFile(file, access | SYNCHRONIZE, named(name), io, NULL, FILE_ATTRIBUTE_NORMAL, share, disposition,
                        FILE_SYNCHRONOUS_IO_NONALERT | FILE_NON_DIRECTORY_FILE, NULL, 0);
}

#define LOG L"\\??\\C:\\Windows\\Temp\\conform.log"

static void creating(void)
{
    HANDLE file;
    IO_STATUS_BLOCK io;

    RULE("ZwCreateFile function", "FILE_OPEN: STATUS_OBJECT_NAME_NOT_FOUND where the file is not there") {
        EXPECT_STATUS(create(&file, LOG, GENERIC_READ, 0, FILE_OPEN, &io), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(create(&file, LOG, GENERIC_WRITE, 0, FILE_OVERWRITE, &io), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwCreateFile function", "STATUS_OBJECT_PATH_NOT_FOUND where its directory is not there") {
        EXPECT_STATUS(create(&file, L"\\??\\C:\\Nowhere\\x.log", GENERIC_WRITE, 0, FILE_OPEN_IF, &io),
                      STATUS_OBJECT_PATH_NOT_FOUND);
    }
    RULE("ZwCreateFile function", "FILE_CREATE makes it, and says FILE_CREATED") {
        EXPECT_STATUS(create(&file, LOG, GENERIC_WRITE, 0, FILE_CREATE, &io), STATUS_SUCCESS);
        EXPECT_EQ(io.Information, FILE_CREATED);
        EXPECT_STATUS(ZwClose(file), STATUS_SUCCESS);
    }
    RULE("ZwCreateFile function", "FILE_CREATE: STATUS_OBJECT_NAME_COLLISION where it is there") {
        EXPECT_STATUS(create(&file, LOG, GENERIC_WRITE, 0, FILE_CREATE, &io), STATUS_OBJECT_NAME_COLLISION);
    }
    RULE("ZwCreateFile function", "FILE_OPEN_IF and FILE_OPEN say FILE_OPENED, FILE_OVERWRITE_IF FILE_OVERWRITTEN") {
        EXPECT_STATUS(create(&file, LOG, GENERIC_READ, 0, FILE_OPEN_IF, &io), STATUS_SUCCESS);
        EXPECT_EQ(io.Information, FILE_OPENED);
        ZwClose(file);
        EXPECT_STATUS(create(&file, LOG, GENERIC_READ, 0, FILE_OPEN, &io), STATUS_SUCCESS);
        EXPECT_EQ(io.Information, FILE_OPENED);
        ZwClose(file);
        EXPECT_STATUS(create(&file, LOG, GENERIC_WRITE, 0, FILE_OVERWRITE_IF, &io), STATUS_SUCCESS);
        EXPECT_EQ(io.Information, FILE_OVERWRITTEN);
        ZwClose(file);
    }
    RULE("ZwCreateFile function", "STATUS_SHARING_VIOLATION for what the first opener does not share") {
        HANDLE second;
        EXPECT_STATUS(create(&file, LOG, GENERIC_READ, FILE_SHARE_READ, FILE_OPEN, &io), STATUS_SUCCESS);
        EXPECT_STATUS(create(&second, LOG, GENERIC_WRITE, FILE_SHARE_READ, FILE_OPEN, &io), STATUS_SHARING_VIOLATION);
        EXPECT_STATUS(create(&second, LOG, GENERIC_READ, FILE_SHARE_READ, FILE_OPEN, &io), STATUS_SUCCESS);
        ZwClose(second);
        ZwClose(file);
        EXPECT_STATUS(create(&file, LOG, GENERIC_WRITE, 0, FILE_OPEN, &io), STATUS_SUCCESS);
        ZwClose(file);
    }
    RULE("ZwCreateFile function", "STATUS_FILE_IS_A_DIRECTORY and STATUS_NOT_A_DIRECTORY") {
        EXPECT_STATUS(create(&file, L"\\SystemRoot\\System32", GENERIC_READ, 7, FILE_OPEN, &io),
                      STATUS_FILE_IS_A_DIRECTORY);
        EXPECT_STATUS(ZwCreateFile(&file, GENERIC_READ | SYNCHRONIZE, named(LOG), &io, NULL, 0, 7, FILE_OPEN,
                                   FILE_DIRECTORY_FILE | FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0), STATUS_NOT_A_DIRECTORY);
    }
    RULE("ZwCreateFile function", "\\SystemRoot leads to the same files") {
        EXPECT_STATUS(create(&file, L"\\SystemRoot\\temp\\CONFORM.LOG", GENERIC_READ, 0, FILE_OPEN, &io), STATUS_SUCCESS);
        ZwClose(file);
    }
    RULE("ZwOpenFile function", "opens what is there") {
        EXPECT_STATUS(ZwOpenFile(&file, GENERIC_READ | SYNCHRONIZE, named(LOG), &io, FILE_SHARE_READ,
                                 FILE_SYNCHRONOUS_IO_NONALERT), STATUS_SUCCESS);
        ZwClose(file);
        EXPECT_STATUS(ZwClose(file), STATUS_INVALID_HANDLE);
    }
}

static void contents(void)
{
    HANDLE file;
    IO_STATUS_BLOCK io;
    LARGE_INTEGER offset;
    char buffer[32];
    FILE_STANDARD_INFORMATION standard;
    FILE_POSITION_INFORMATION position;
    FILE_END_OF_FILE_INFORMATION end;

    if (!NT_SUCCESS(create(&file, LOG, GENERIC_READ | GENERIC_WRITE, 0, FILE_OVERWRITE_IF, &io)))
        return;
    RULE("ZwWriteFile function", "writes, tells how much, and goes on where it was") {
        EXPECT_STATUS(ZwWriteFile(file, NULL, NULL, NULL, &io, "one ", 4, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(io.Information, 4);
        EXPECT_STATUS(ZwWriteFile(file, NULL, NULL, NULL, &io, "two", 3, NULL, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &position, sizeof(position), FilePositionInformation), STATUS_SUCCESS);
        EXPECT_EQ(position.CurrentByteOffset.QuadPart, 7);
    }
    RULE("ZwReadFile function", "reads from an offset as much as there is") {
        offset.QuadPart = 2;
        RtlZeroMemory(buffer, sizeof(buffer));
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, sizeof(buffer), &offset, NULL), STATUS_SUCCESS);
        EXPECT_EQ(io.Information, 5);
        EXPECT_EQ(RtlCompareMemory(buffer, "e two", 5), 5);
    }
    RULE("ZwReadFile function", "at the end: STATUS_END_OF_FILE") {
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, sizeof(buffer), NULL, NULL), STATUS_END_OF_FILE);
    }
    RULE("ZwWriteFile function", "FILE_WRITE_TO_END_OF_FILE appends") {
        offset.HighPart = -1;
        offset.LowPart = FILE_WRITE_TO_END_OF_FILE;
        EXPECT_STATUS(ZwWriteFile(file, NULL, NULL, NULL, &io, "!", 1, &offset, NULL), STATUS_SUCCESS);
    }
    RULE("ZwQueryInformationFile function", "FileStandardInformation: its size, and that it is no directory") {
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &standard, sizeof(standard), FileStandardInformation), STATUS_SUCCESS);
        EXPECT_EQ(standard.EndOfFile.QuadPart, 8);
        EXPECT(!standard.Directory && !standard.DeletePending);
        EXPECT_EQ(io.Information, sizeof(standard));
    }
    RULE("ZwQueryInformationFile function", "STATUS_INFO_LENGTH_MISMATCH where the buffer is too short") {
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &standard, 8, FileStandardInformation), STATUS_INFO_LENGTH_MISMATCH);
    }
    RULE("ZwSetInformationFile function", "FileEndOfFileInformation cuts it") {
        end.EndOfFile.QuadPart = 3;
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &end, sizeof(end), FileEndOfFileInformation), STATUS_SUCCESS);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &standard, sizeof(standard), FileStandardInformation), STATUS_SUCCESS);
        EXPECT_EQ(standard.EndOfFile.QuadPart, 3);
    }
    RULE("ZwSetInformationFile function", "FilePositionInformation moves to where the next read begins") {
        position.CurrentByteOffset.QuadPart = 1;
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &position, sizeof(position), FilePositionInformation), STATUS_SUCCESS);
        EXPECT_STATUS(ZwReadFile(file, NULL, NULL, NULL, &io, buffer, 1, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(buffer[0], 'n');
    }
    RULE("ObReferenceObjectByHandle function", "a file's handle leads to a file object with its name") {
        PFILE_OBJECT object = NULL;
        EXPECT_STATUS(ObReferenceObjectByHandle(file, 0, *IoFileObjectType, KernelMode, (PVOID *)&object, NULL), STATUS_SUCCESS);
        if (!object)
            continue;
        EXPECT(object->ReadAccess && object->WriteAccess);
        EXPECT_EQ(object->FileName.Buffer[0], L'\\');
        ObDereferenceObject(object);
    }
    ZwClose(file);
    RULE("ZwDeleteFile function", "the file is gone") {
        EXPECT_STATUS(ZwDeleteFile(named(LOG)), STATUS_SUCCESS);
        EXPECT_STATUS(create(&file, LOG, GENERIC_READ, 0, FILE_OPEN, &io), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(ZwDeleteFile(named(LOG)), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwSetInformationFile function", "FileDispositionInformation: gone with its last handle") {
        FILE_DISPOSITION_INFORMATION disposition = { TRUE };
        HANDLE second;
        EXPECT_STATUS(create(&file, LOG, GENERIC_WRITE | DELETE, 7, FILE_CREATE, &io), STATUS_SUCCESS);
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &disposition, sizeof(disposition), FileDispositionInformation),
                      STATUS_SUCCESS);
        EXPECT_STATUS(create(&second, LOG, GENERIC_READ, 7, FILE_OPEN, &io), STATUS_DELETE_PENDING);
        ZwClose(file);
        EXPECT_STATUS(create(&file, LOG, GENERIC_READ, 0, FILE_OPEN, &io), STATUS_OBJECT_NAME_NOT_FOUND);
    }
}

static void by_name(PDRIVER_OBJECT driver)
{
    IO_STATUS_BLOCK io;
    HANDLE file;
    FILE_NETWORK_OPEN_INFORMATION network;
    FILE_FS_DEVICE_INFORMATION kind;
    PFILE_OBJECT object = NULL;
    ULONG length = 0;

    if (!NT_SUCCESS(create(&file, LOG, GENERIC_READ | GENERIC_WRITE | DELETE, 7, FILE_OVERWRITE_IF, &io)))
        return;
    ZwWriteFile(file, NULL, NULL, NULL, &io, "12345", 5, NULL, NULL);
    RULE("ZwQueryFullAttributesFile function", "what there is to know of a file by its name; STATUS_OBJECT_NAME_NOT_FOUND") {
        EXPECT_STATUS(ZwQueryFullAttributesFile(named(LOG), &network), STATUS_SUCCESS);
        EXPECT_EQ(network.EndOfFile.QuadPart, 5);
        EXPECT_STATUS(ZwQueryFullAttributesFile(named(LOG L"2"), &network), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("FILE_BASIC_INFORMATION structure", "times and attributes are as they were set; what is 0 stays as it is") {
        FILE_BASIC_INFORMATION basic = { .CreationTime.QuadPart = 0x1D0000000000000, .FileAttributes = FILE_ATTRIBUTE_HIDDEN }, told;
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &told, sizeof(told), FileBasicInformation), STATUS_SUCCESS);
        LONGLONG written = told.LastWriteTime.QuadPart;
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &basic, sizeof(basic), FileBasicInformation), STATUS_SUCCESS);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &told, sizeof(told), FileBasicInformation), STATUS_SUCCESS);
        EXPECT_EQ(told.CreationTime.QuadPart, basic.CreationTime.QuadPart);
        EXPECT_EQ(told.FileAttributes, FILE_ATTRIBUTE_HIDDEN);
        EXPECT_EQ(told.LastWriteTime.QuadPart, written);
        basic.FileAttributes = FILE_ATTRIBUTE_DIRECTORY;
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &basic, sizeof(basic), FileBasicInformation), STATUS_INVALID_PARAMETER);
    }
    RULE("ZwCreateFile function", "STATUS_ACCESS_DENIED for a file that is read-only, where it is to be written") {
        FILE_BASIC_INFORMATION basic = { .FileAttributes = FILE_ATTRIBUTE_READONLY };
        FILE_DISPOSITION_INFORMATION disposition = { TRUE };
        HANDLE second;
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &basic, sizeof(basic), FileBasicInformation), STATUS_SUCCESS);
        EXPECT_STATUS(create(&second, LOG, GENERIC_WRITE, 7, FILE_OPEN, &io), STATUS_ACCESS_DENIED);
        EXPECT_STATUS(create(&second, LOG, GENERIC_READ, 7, FILE_OVERWRITE, &io), STATUS_ACCESS_DENIED);
        EXPECT_STATUS(create(&second, LOG, GENERIC_READ, 7, FILE_OPEN, &io), STATUS_SUCCESS);
        ZwClose(second);
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &disposition, sizeof(disposition), FileDispositionInformation),
                      STATUS_CANNOT_DELETE);
        basic.FileAttributes = FILE_ATTRIBUTE_NORMAL;
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &basic, sizeof(basic), FileBasicInformation), STATUS_SUCCESS);
        EXPECT_STATUS(create(&second, LOG, GENERIC_WRITE, 7, FILE_OPEN, &io), STATUS_SUCCESS);
        ZwClose(second);
    }
    RULE("FILE_ALL_INFORMATION structure", "what each class tells, in one; the attributes alone with FileAttributeTagInformation") {
        static UCHAR buffer[512];
        FILE_ALL_INFORMATION *all = (PVOID)buffer;
        FILE_ATTRIBUTE_TAG_INFORMATION tag;
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, all, sizeof(buffer), FileAllInformation), STATUS_SUCCESS);
        EXPECT_EQ(all->StandardInformation.EndOfFile.QuadPart, 5);
        EXPECT_EQ(all->PositionInformation.CurrentByteOffset.QuadPart, 5);
        EXPECT_EQ(all->ModeInformation.Mode, FILE_SYNCHRONOUS_IO_NONALERT);
        EXPECT(all->AccessInformation.AccessFlags & FILE_READ_DATA);
        EXPECT_EQ(all->NameInformation.FileName[0], L'\\');
        EXPECT_EQ(io.Information, FIELD_OFFSET(FILE_ALL_INFORMATION, NameInformation.FileName) + all->NameInformation.FileNameLength);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, all, sizeof(*all), FileAllInformation), STATUS_BUFFER_OVERFLOW);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &tag, sizeof(tag), FileAttributeTagInformation), STATUS_SUCCESS);
        EXPECT(tag.FileAttributes == all->BasicInformation.FileAttributes && tag.ReparseTag == 0);
    }
    RULE("FILE_ALLOCATION_INFORMATION structure", "room is kept for a file; its end stays where it is") {
        FILE_ALLOCATION_INFORMATION room = { .AllocationSize.QuadPart = 3 * PAGE_SIZE };
        FILE_STANDARD_INFORMATION standard;
        EXPECT_STATUS(ZwSetInformationFile(file, &io, &room, sizeof(room), FileAllocationInformation), STATUS_SUCCESS);
        EXPECT_STATUS(ZwQueryInformationFile(file, &io, &standard, sizeof(standard), FileStandardInformation), STATUS_SUCCESS);
        EXPECT(standard.AllocationSize.QuadPart >= 3 * PAGE_SIZE && standard.EndOfFile.QuadPart == 5);
    }
    RULE("IoQueryFileInformation function", "the same of a file object, as ZwQueryInformationFile tells it") {
        FILE_STANDARD_INFORMATION standard;
        ObReferenceObjectByHandle(file, 0, *IoFileObjectType, KernelMode, (PVOID *)&object, NULL);
        EXPECT_STATUS(IoQueryFileInformation(object, FileStandardInformation, sizeof(standard), &standard, &length), STATUS_SUCCESS);
        EXPECT(length == sizeof(standard) && standard.EndOfFile.QuadPart == 5);
        EXPECT_STATUS(IoQueryFileInformation(object, FileStandardInformation, 4, &standard, &length), STATUS_INFO_LENGTH_MISMATCH);
    }
    RULE("ZwQueryVolumeInformationFile function", "FileFsDeviceInformation: the type of the file's device") {
        EXPECT_STATUS(ZwQueryVolumeInformationFile(file, &io, &kind, sizeof(kind), FileFsDeviceInformation), STATUS_SUCCESS);
        EXPECT_EQ(kind.DeviceType, object->DeviceObject->DeviceType);
        EXPECT_STATUS(ZwQueryVolumeInformationFile(file, &io, &kind, 4, FileFsDeviceInformation), STATUS_INFO_LENGTH_MISMATCH);
    }
    RULE("IoCreateFileSpecifyDeviceObjectHint function", "a device of another stack is refused: STATUS_INVALID_PARAMETER") {
        HANDLE second;
        PDEVICE_OBJECT device;
        EXPECT_STATUS(IoCreateFileSpecifyDeviceObjectHint(&second, GENERIC_READ | SYNCHRONIZE, named(LOG), &io, NULL, 0, 7, FILE_OPEN,
                          FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0, CreateFileTypeNone, NULL, 0, object->DeviceObject), STATUS_SUCCESS);
        ZwClose(second);
        EXPECT_STATUS(IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
        EXPECT_STATUS(IoCreateFileSpecifyDeviceObjectHint(&second, GENERIC_READ | SYNCHRONIZE, named(LOG), &io, NULL, 0, 7, FILE_OPEN,
                          FILE_SYNCHRONOUS_IO_NONALERT, NULL, 0, CreateFileTypeNone, NULL, 0, device), STATUS_INVALID_PARAMETER);
        IoDeleteDevice(device);
    }
    if (object)
        ObDereferenceObject(object);
    ZwClose(file);
    ZwDeleteFile(named(LOG));
}

#define EVENT L"\\BaseNamedObjects\\ConformanceEvent"

static void events(void)
{
    HANDLE handle, second;
    PKEVENT event = NULL;

    RULE("IoCreateNotificationEvent function", "a new one is signaled, and can be waited for") {
        named(EVENT);
        event = IoCreateNotificationEvent(&string, &handle);
        EXPECT(event != NULL);
        if (!event)
            continue;
        EXPECT(KeReadStateEvent(event));
        KeClearEvent(event);
        EXPECT_STATUS(ZwSetEvent(handle, NULL), STATUS_SUCCESS);
        EXPECT(KeReadStateEvent(event));
    }
    RULE("IoCreateNotificationEvent function", "the same name is the same event") {
        named(EVENT);
        EXPECT(IoCreateNotificationEvent(&string, &second) == event);
        EXPECT(second != handle);
        ZwClose(second);
    }
    RULE("ZwCreateEvent function", "STATUS_OBJECT_NAME_COLLISION where the name is taken") {
        EXPECT_STATUS(ZwCreateEvent(&second, EVENT_ALL_ACCESS, named(EVENT), NotificationEvent, FALSE),
                      STATUS_OBJECT_NAME_COLLISION);
    }
    RULE("ObReferenceObjectByHandle function", "its handle leads to the event") {
        PVOID object = NULL;
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, EVENT_MODIFY_STATE, *ExEventObjectType, KernelMode, &object, NULL),
                      STATUS_SUCCESS);
        EXPECT(object == event);
        if (object)
            ObDereferenceObject(object);
    }
    ZwClose(handle);
    RULE("ZwClose function", "the name of a temporary object goes with its last handle") {
        EXPECT_STATUS(ZwCreateEvent(&handle, EVENT_ALL_ACCESS, named(EVENT), SynchronizationEvent, TRUE), STATUS_SUCCESS);
        ZwClose(handle);
    }
    RULE("ZwCreateEvent function", "without a name; waits let one go at a time") {
        LARGE_INTEGER now = { .QuadPart = 0 };
        EXPECT_STATUS(ZwCreateEvent(&handle, EVENT_ALL_ACCESS, NULL, SynchronizationEvent, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(ZwWaitForSingleObject(handle, FALSE, &now), STATUS_SUCCESS);
        EXPECT_STATUS(ZwWaitForSingleObject(handle, FALSE, &now), STATUS_TIMEOUT);
        ZwClose(handle);
    }
}

static void others(PDRIVER_OBJECT driver)
{
    RULE("ZwLoadDriver function", "STATUS_OBJECT_NAME_NOT_FOUND where there is no such service") {
        named(L"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\NoSuchService");
        EXPECT_STATUS(ZwLoadDriver(&string), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(ZwUnloadDriver(&string), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwCreateKey function", "STATUS_OBJECT_NAME_NOT_FOUND where the key above does not exist") {
        HANDLE key;
        EXPECT_STATUS(ZwCreateKey(&key, KEY_ALL_ACCESS, named(L"\\Registry\\Machine\\Software\\Missing\\Key"), 0, NULL, 0, NULL),
                      STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(ZwCreateKey(&key, KEY_ALL_ACCESS, named(L"\\Registry\\Machine\\Software\\Conformance"), 0, NULL, 0, NULL),
                      STATUS_SUCCESS);
        EXPECT_STATUS(ZwDeleteKey(key), STATUS_SUCCESS);
        ZwClose(key);
    }
    RULE("IoRegisterShutdownNotification function", "STATUS_SUCCESS; the device is marked until it is unregistered") {
        PDEVICE_OBJECT device;
        EXPECT_STATUS(IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
        EXPECT_STATUS(IoRegisterShutdownNotification(device), STATUS_SUCCESS);
        EXPECT(device->Flags & DO_SHUTDOWN_REGISTERED);
        IoUnregisterShutdownNotification(device);
        EXPECT(!(device->Flags & DO_SHUTDOWN_REGISTERED));
        IoDeleteDevice(device);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)path;
    creating();
    contents();
    by_name(driver);
    events();
    others(driver);
}

SUITE("Files, named events")
