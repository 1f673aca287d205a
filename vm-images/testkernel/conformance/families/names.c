/* Links, directories and timers behind handles; identifiers that nobody else gets. */
#include <check.h>

#ifndef TIMER_ALL_ACCESS
#define TIMER_ALL_ACCESS (STANDARD_RIGHTS_REQUIRED | SYNCHRONIZE | 3)
#endif

static OBJECT_ATTRIBUTES attributes;

static POBJECT_ATTRIBUTES named(PUNICODE_STRING name, ULONG flags)
{
    InitializeObjectAttributes(&attributes, name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE | flags, NULL, NULL);
    return &attributes;
}

static void links(void)
{
    UNICODE_STRING link = RTL_CONSTANT_STRING(L"\\DosDevices\\NamesRule");
    UNICODE_STRING target = RTL_CONSTANT_STRING(L"\\Device\\NamesRule0");
    UNICODE_STRING missing = RTL_CONSTANT_STRING(L"\\DosDevices\\NoSuchRule");
    UNICODE_STRING directory = RTL_CONSTANT_STRING(L"\\Device");
    WCHAR buffer[32];
    UNICODE_STRING told = { 0, sizeof(buffer), buffer };
    HANDLE handle = NULL;
    ULONG length = 0;

    IoCreateSymbolicLink(&link, &target);
    RULE("ZwOpenSymbolicLinkObject function", "the link itself, whether or not there is what it leads to") {
        EXPECT_STATUS(ZwOpenSymbolicLinkObject(&handle, GENERIC_READ, named(&link, 0)), STATUS_SUCCESS);
    }
    RULE("ZwQuerySymbolicLinkObject function", "where it leads") {
        EXPECT_STATUS(ZwQuerySymbolicLinkObject(handle, &told, &length), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&told, &target, FALSE));
        EXPECT(length >= target.Length);
    }
    RULE("ZwQuerySymbolicLinkObject function", "STATUS_BUFFER_TOO_SMALL, and how much it takes") {
        told.MaximumLength = 4;
        length = 0;
        EXPECT_STATUS(ZwQuerySymbolicLinkObject(handle, &told, &length), STATUS_BUFFER_TOO_SMALL);
        EXPECT(length >= target.Length);
        told.MaximumLength = sizeof(buffer);
    }
    RULE("ZwQuerySymbolicLinkObject function", "also after the link's name has gone") {
        IoDeleteSymbolicLink(&link);
        EXPECT_STATUS(ZwQuerySymbolicLinkObject(handle, &told, NULL), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&told, &target, FALSE));
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        EXPECT_STATUS(ZwQuerySymbolicLinkObject(handle, &told, NULL), STATUS_INVALID_HANDLE);
    }
    RULE("ZwOpenSymbolicLinkObject function", "STATUS_OBJECT_NAME_NOT_FOUND, or STATUS_OBJECT_TYPE_MISMATCH for what is no link") {
        EXPECT_STATUS(ZwOpenSymbolicLinkObject(&handle, GENERIC_READ, named(&missing, 0)), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(ZwOpenSymbolicLinkObject(&handle, GENERIC_READ, named(&directory, 0)), STATUS_OBJECT_TYPE_MISMATCH);
    }
}

static void directories(PDRIVER_OBJECT driver)
{
    UNICODE_STRING ours = RTL_CONSTANT_STRING(L"\\Device\\RuleDirectory");
    UNICODE_STRING inside = RTL_CONSTANT_STRING(L"\\Device\\RuleDirectory\\One");
    UNICODE_STRING relative = RTL_CONSTANT_STRING(L"Event");
    UNICODE_STRING whole = RTL_CONSTANT_STRING(L"\\Device\\RuleDirectory\\Event");
    UNICODE_STRING device = RTL_CONSTANT_STRING(L"\\Device");
    PDEVICE_OBJECT made = NULL;
    HANDLE handle = NULL, again = NULL, event = NULL;

    RULE("ZwOpenDirectoryObject function", "a directory that every system has; STATUS_OBJECT_NAME_NOT_FOUND for another") {
        EXPECT_STATUS(ZwOpenDirectoryObject(&handle, DIRECTORY_QUERY, named(&device, 0)), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenDirectoryObject(&handle, DIRECTORY_QUERY, named(&ours, 0)), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwCreateDirectoryObject function", "a new one, in which devices can be made") {
        EXPECT_STATUS(ZwCreateDirectoryObject(&handle, DIRECTORY_ALL_ACCESS, named(&ours, 0)), STATUS_SUCCESS);
        EXPECT_STATUS(IoCreateDevice(driver, 0, &inside, FILE_DEVICE_UNKNOWN, 0, FALSE, &made), STATUS_SUCCESS);
        IoDeleteDevice(made);
    }
    RULE("ZwCreateDirectoryObject function", "STATUS_OBJECT_NAME_COLLISION; with OBJ_OPENIF the one that is there") {
        EXPECT_STATUS(ZwCreateDirectoryObject(&again, DIRECTORY_ALL_ACCESS, named(&ours, 0)), STATUS_OBJECT_NAME_COLLISION);
        EXPECT_STATUS(ZwCreateDirectoryObject(&again, DIRECTORY_ALL_ACCESS, named(&ours, OBJ_OPENIF)),
                      STATUS_OBJECT_NAME_EXISTS);
        EXPECT_STATUS(ZwClose(again), STATUS_SUCCESS);
    }
    RULE("InitializeObjectAttributes macro", "a name in RootDirectory goes on where the directory is") {
        InitializeObjectAttributes(&attributes, &relative, OBJ_KERNEL_HANDLE, handle, NULL);
        EXPECT_STATUS(ZwCreateEvent(&event, EVENT_ALL_ACCESS, &attributes, NotificationEvent, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenEvent(&again, EVENT_ALL_ACCESS, named(&whole, 0)), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(again), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(event), STATUS_SUCCESS);
    }
    RULE("ZwCreateDirectoryObject function", "it goes with its last handle") {
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenDirectoryObject(&handle, DIRECTORY_QUERY, named(&ours, 0)), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwMakeTemporaryObject function", "a permanent one stays until it is made temporary") {
        EXPECT_STATUS(ZwCreateDirectoryObject(&handle, DIRECTORY_ALL_ACCESS, named(&ours, OBJ_PERMANENT)), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenDirectoryObject(&handle, DIRECTORY_ALL_ACCESS, named(&ours, 0)), STATUS_SUCCESS);
        EXPECT_STATUS(ZwMakeTemporaryObject(handle), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenDirectoryObject(&handle, DIRECTORY_QUERY, named(&ours, 0)), STATUS_OBJECT_NAME_NOT_FOUND);
    }
}

static void timers(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\TimerRule");
    LARGE_INTEGER soon = after_us(2000), late = after_us(60000000), no_time;
    HANDLE timer = NULL, again = NULL;
    BOOLEAN state = TRUE;

    no_time.QuadPart = 0;
    RULE("ZwCreateTimer function", "a timer that is not set: its handle can be waited for") {
        EXPECT_STATUS(ZwCreateTimer(&timer, TIMER_ALL_ACCESS, named(&name, 0), NotificationTimer), STATUS_SUCCESS);
        EXPECT_STATUS(ZwWaitForSingleObject(timer, FALSE, &no_time), STATUS_TIMEOUT);
    }
    RULE("ZwCreateTimer function", "STATUS_OBJECT_NAME_COLLISION where the name is taken") {
        EXPECT_STATUS(ZwCreateTimer(&again, TIMER_ALL_ACCESS, named(&name, 0), NotificationTimer),
                      STATUS_OBJECT_NAME_COLLISION);
    }
    RULE("ZwOpenTimer function", "the timer of that name") {
        EXPECT_STATUS(ZwOpenTimer(&again, TIMER_ALL_ACCESS, named(&name, 0)), STATUS_SUCCESS);
    }
    RULE("ZwSetTimer function", "signalled when it is due; what it was before is told") {
        EXPECT_STATUS(ZwSetTimer(timer, &soon, NULL, NULL, FALSE, 0, &state), STATUS_SUCCESS);
        EXPECT(!state);
        EXPECT_STATUS(ZwWaitForSingleObject(again, FALSE, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(ZwSetTimer(timer, &late, NULL, NULL, FALSE, 0, &state), STATUS_SUCCESS);
        EXPECT(state);
        EXPECT_STATUS(ZwWaitForSingleObject(timer, FALSE, &no_time), STATUS_TIMEOUT);
    }
    RULE("ZwCancelTimer function", "does not signal it, and tells whether it is") {
        state = TRUE;
        EXPECT_STATUS(ZwCancelTimer(timer, &state), STATUS_SUCCESS);
        EXPECT(!state);
        EXPECT_STATUS(ZwWaitForSingleObject(timer, FALSE, &no_time), STATUS_TIMEOUT);
    }
    RULE("ZwClose function", "a timer that is set goes with its last handle") {
        EXPECT_STATUS(ZwSetTimer(timer, &soon, NULL, NULL, FALSE, 1, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(timer), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(again), STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenTimer(&again, TIMER_ALL_ACCESS, named(&name, 0)), STATUS_OBJECT_NAME_NOT_FOUND);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    links();
    directories(driver);
    timers();
    RULE("ZwAllocateLocallyUniqueId function", "another each time") {
        LUID first = { 0, 0 }, second = { 0, 0 };
        EXPECT_STATUS(ZwAllocateLocallyUniqueId(&first), STATUS_SUCCESS);
        EXPECT_STATUS(ZwAllocateLocallyUniqueId(&second), STATUS_SUCCESS);
        EXPECT(!RtlEqualLuid(&first, &second));
        EXPECT(first.LowPart != 0);
    }
    (void)path;
}

SUITE("Names")
