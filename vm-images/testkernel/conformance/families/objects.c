/* Objects: who refers to them, of which type they are, what a handle gives. */
#include <check.h>

static KEVENT turn[2];
static PVOID seen_thread;
static LONG_PTR counts[2];

static VOID NTAPI counted(PVOID context)
{
    (void)context;
    seen_thread = KeGetCurrentThread();
    KeSetEvent(&turn[0], 0, FALSE);
    KeWaitForSingleObject(&turn[1], Executive, KernelMode, FALSE, NULL);
    counts[0] = ObReferenceObject(KeGetCurrentThread());
    counts[1] = ObDereferenceObject(KeGetCurrentThread());
}

static void threads(void)
{
    RULE("ObReferenceObject macro", "the thread that DriverEntry runs in is an object as any other") {
        PVOID thread = KeGetCurrentThread();
        LONG_PTR count = ObReferenceObject(thread);
        EXPECT(count >= 2);
        EXPECT_EQ(ObDereferenceObject(thread), count - 1);
    }
    RULE("ObReferenceObjectByPointer function", "STATUS_SUCCESS for an object of the type") {
        EXPECT_STATUS(ObReferenceObjectByPointer(KeGetCurrentThread(), 0, *PsThreadType, KernelMode), STATUS_SUCCESS);
        ObDereferenceObject(KeGetCurrentThread());
        EXPECT_STATUS(ObReferenceObjectByPointer(PsGetCurrentProcess(), 0, *PsProcessType, KernelMode), STATUS_SUCCESS);
        ObDereferenceObject(PsGetCurrentProcess());
    }
    RULE("ObReferenceObjectByPointer function", "STATUS_OBJECT_TYPE_MISMATCH for one of another type") {
        EXPECT_STATUS(ObReferenceObjectByPointer(KeGetCurrentThread(), 0, *IoFileObjectType, KernelMode),
                      STATUS_OBJECT_TYPE_MISMATCH);
        EXPECT_STATUS(ObReferenceObjectByPointer(PsGetCurrentProcess(), 0, *PsThreadType, KernelMode),
                      STATUS_OBJECT_TYPE_MISMATCH);
    }
    RULE("ObReferenceObject macro", "a thread is an object until it ends, also when its handle is closed") {
        HANDLE handle;
        PVOID thread = NULL;
        KeInitializeEvent(&turn[0], SynchronizationEvent, FALSE);
        KeInitializeEvent(&turn[1], SynchronizationEvent, FALSE);
        EXPECT_STATUS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, counted, NULL), STATUS_SUCCESS);
        KeWaitForSingleObject(&turn[0], Executive, KernelMode, FALSE, NULL);
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, &thread, NULL),
                      STATUS_SUCCESS);
        EXPECT(thread == seen_thread);
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        KeSetEvent(&turn[1], 0, FALSE);
        EXPECT_STATUS(KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT(counts[0] == counts[1] + 1 && counts[1] >= 1);
        ObDereferenceObject(thread);
    }
    RULE("PsLookupThreadByThreadId function", "finds a thread by its number, with a reference") {
        PETHREAD thread = NULL;
        EXPECT_STATUS(PsLookupThreadByThreadId(PsGetCurrentThreadId(), &thread), STATUS_SUCCESS);
        EXPECT((PVOID)thread == (PVOID)KeGetCurrentThread());
        if (thread)
            ObDereferenceObject(thread);
        EXPECT(!NT_SUCCESS(PsLookupThreadByThreadId((HANDLE)0x7FFFFFF0, &thread)));
    }
    RULE("PsLookupProcessByProcessId function", "finds the process, with a reference") {
        PEPROCESS process = NULL;
        EXPECT_STATUS(PsLookupProcessByProcessId(PsGetCurrentProcessId(), &process), STATUS_SUCCESS);
        EXPECT((PVOID)process == (PVOID)PsGetCurrentProcess());
        if (process)
            ObDereferenceObject(process);
        EXPECT(!NT_SUCCESS(PsLookupProcessByProcessId((HANDLE)0x7FFFFFF0, &process)));
    }
    RULE("PsInitialSystemProcess", "is the process of system threads") {
        EXPECT((PVOID)PsInitialSystemProcess == (PVOID)PsGetCurrentProcess());
        EXPECT((PVOID)IoGetCurrentProcess() == (PVOID)PsInitialSystemProcess);
        EXPECT_EQ(PsGetCurrentProcessId(), 4);
    }
}

static VOID NTAPI nothing(PVOID context)
{
    (void)context;
}

static void handles(void)
{
    HANDLE handle;
    PVOID object;
    OBJECT_HANDLE_INFORMATION information;

    if (!NT_SUCCESS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, nothing, NULL)))
        return;
    RULE("ObReferenceObjectByHandle function", "STATUS_OBJECT_TYPE_MISMATCH where the handle is of another type") {
        object = &handle;
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, *ExEventObjectType, KernelMode, &object, NULL),
                      STATUS_OBJECT_TYPE_MISMATCH);
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, *IoFileObjectType, KernelMode, &object, NULL),
                      STATUS_OBJECT_TYPE_MISMATCH);
    }
    RULE("ObReferenceObjectByHandle function", "any type where none is given; tells what the handle grants") {
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, NULL, KernelMode, &object, &information), STATUS_SUCCESS);
        EXPECT(information.GrantedAccess != 0);
        ObDereferenceObject(object);
    }
    RULE("ObReferenceObjectByHandle function", "STATUS_INVALID_HANDLE for what is no handle") {
        EXPECT_STATUS(ObReferenceObjectByHandle((HANDLE)0x12344, 0, NULL, KernelMode, &object, NULL),
                      STATUS_INVALID_HANDLE);
    }
    RULE("ObReferenceObjectByHandle function", "the current thread's pseudo handle is the current thread") {
        EXPECT_STATUS(ObReferenceObjectByHandle(NtCurrentThread(), 0, *PsThreadType, KernelMode, &object, NULL),
                      STATUS_SUCCESS);
        EXPECT(object == (PVOID)KeGetCurrentThread());
        ObDereferenceObject(object);
    }
    RULE("ObOpenObjectByPointer function", "a handle for an object that is referred to") {
        HANDLE second = NULL;
        PVOID again = NULL;
        ObReferenceObjectByHandle(handle, 0, *PsThreadType, KernelMode, &object, NULL);
        EXPECT_STATUS(ObOpenObjectByPointer(object, OBJ_KERNEL_HANDLE, NULL, 0, *PsThreadType, KernelMode, &second),
                      STATUS_SUCCESS);
        EXPECT(second != handle && second != NULL);
        EXPECT_STATUS(ObReferenceObjectByHandle(second, 0, *PsThreadType, KernelMode, &again, NULL), STATUS_SUCCESS);
        EXPECT(again == object);
        ObDereferenceObject(again);
        EXPECT_STATUS(ZwClose(second), STATUS_SUCCESS);
        EXPECT_STATUS(ObOpenObjectByPointer(object, OBJ_KERNEL_HANDLE, NULL, 0, *IoFileObjectType, KernelMode, &second),
                      STATUS_OBJECT_TYPE_MISMATCH);
        ObDereferenceObject(object);
    }
    ZwClose(handle);
    RULE("ZwClose function", "STATUS_INVALID_HANDLE for a handle that is closed") {
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, NULL, KernelMode, &object, NULL), STATUS_INVALID_HANDLE);
    }
}

static void types(void)
{
    RULE("POBJECT_TYPE", "every kind has a type of its own") {
        POBJECT_TYPE all[] = { *CmKeyObjectType, *ExEventObjectType, *ExSemaphoreObjectType, *IoFileObjectType, *PsThreadType,
                               *PsProcessType };
        unsigned i, j;
        for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
            EXPECT(all[i] != NULL);
            for (j = 0; j < i; j++)
                EXPECT(all[i] != all[j]);
        }
    }
}

#define DEVICE L"\\Device\\ConformObject"

NTKERNELAPI NTSTATUS NTAPI ObReferenceObjectByName(PUNICODE_STRING, ULONG, PACCESS_STATE, ACCESS_MASK, POBJECT_TYPE, KPROCESSOR_MODE,
                                                   PVOID, PVOID *);
extern __declspec(dllimport) POBJECT_TYPE *IoDriverObjectType;

static void by_name(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(DEVICE), other = RTL_CONSTANT_STRING(L"\\DEVICE\\conformobject");
    struct {
        UNICODE_STRING string;
        WCHAR room[80];
    } told;
    OBJECT_ATTRIBUTES attributes;
    PDEVICE_OBJECT device;
    PVOID object = NULL;
    HANDLE key;
    ULONG length = 0;

    if (!NT_SUCCESS(IoCreateDevice(driver, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device)))
        return;
    RULE("ObQueryNameString function", "the name as it was given, behind the structure, terminated") {
        EXPECT_STATUS(ObQueryNameString(device, (PVOID)&told, sizeof(told), &length), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&told.string, &name, FALSE));
        EXPECT_EQ(told.string.Buffer, told.room);
        EXPECT_EQ(length, sizeof(UNICODE_STRING) + sizeof(DEVICE));
    }
    RULE("ObQueryNameString function", "STATUS_INFO_LENGTH_MISMATCH with the length that it takes") {
        ULONG needed = 0;
        EXPECT_STATUS(ObQueryNameString(device, (PVOID)&told, 8, &needed), STATUS_INFO_LENGTH_MISMATCH);
        EXPECT_EQ(needed, length);
    }
    RULE("ObQueryNameString function", "an object without a name: an empty string, STATUS_SUCCESS") {
        EXPECT_STATUS(ObQueryNameString(KeGetCurrentThread(), (PVOID)&told, sizeof(told), &length), STATUS_SUCCESS);
        EXPECT(told.string.Length == 0 && told.string.Buffer == NULL);
        EXPECT_EQ(length, sizeof(UNICODE_STRING));
    }
    RULE("ObQueryNameString function", "a key's path") {
        InitializeObjectAttributes(&attributes, path, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
        EXPECT_STATUS(ZwOpenKey(&key, KEY_READ, &attributes), STATUS_SUCCESS);
        EXPECT_STATUS(ObReferenceObjectByHandle(key, 0, *CmKeyObjectType, KernelMode, &object, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(ObQueryNameString(object, (PVOID)&told, sizeof(told), &length), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&told.string, path, TRUE));
        ObDereferenceObject(object);
        ZwClose(key);
    }
    RULE("ObReferenceObjectByName", "the driver object of that name, with a reference; STATUS_OBJECT_TYPE_MISMATCH for another type") {
        EXPECT_STATUS(ObReferenceObjectByName(&driver->DriverName, OBJ_CASE_INSENSITIVE, NULL, 0, *IoDriverObjectType, KernelMode, NULL,
                                              &object), STATUS_SUCCESS);
        EXPECT_EQ(object, driver);
        ObDereferenceObject(object);
        EXPECT_STATUS(ObReferenceObjectByName(&other, OBJ_CASE_INSENSITIVE, NULL, 0, *IoDriverObjectType, KernelMode, NULL, &object),
                      STATUS_OBJECT_TYPE_MISMATCH);
        EXPECT_STATUS(ObReferenceObjectByName(path, OBJ_CASE_INSENSITIVE, NULL, 0, NULL, KernelMode, NULL, &object),
                      STATUS_OBJECT_PATH_NOT_FOUND);
    }
    RULE("DRIVER_OBJECT structure", "DriverSection leads to the image's entry in the list of loaded modules") {
        struct entry {
            LIST_ENTRY links;
            PVOID other[4];
            PVOID base, entry_point;
            ULONG size;
        } *entry = driver->DriverSection;
        EXPECT(entry != NULL);
        if (!entry)
            continue;
        EXPECT(entry->base == driver->DriverStart && entry->size == driver->DriverSize);
        EXPECT(entry->links.Flink->Blink == &entry->links && entry->links.Blink->Flink == &entry->links);
    }
    IoDeleteDevice(device);
}

static void duplicates(void)
{
    HANDLE one, two = NULL, both[2];
    PUBLIC_OBJECT_BASIC_INFORMATION basic;
    LARGE_INTEGER now = { .QuadPart = 0 };
    ULONG length;

    if (!NT_SUCCESS(ZwCreateEvent(&one, EVENT_ALL_ACCESS, NULL, NotificationEvent, FALSE)))
        return;
    RULE("ZwDuplicateObject function", "another handle for the same object, with the same access where that is asked for") {
        PVOID first = NULL, second = NULL;
        OBJECT_HANDLE_INFORMATION information = { 0, 0 };
        EXPECT_STATUS(ZwDuplicateObject(ZwCurrentProcess(), one, ZwCurrentProcess(), &two, 0, 0, DUPLICATE_SAME_ACCESS), STATUS_SUCCESS);
        EXPECT(two != NULL && two != one);
        ObReferenceObjectByHandle(one, 0, *ExEventObjectType, KernelMode, &first, NULL);
        ObReferenceObjectByHandle(two, 0, *ExEventObjectType, KernelMode, &second, &information);
        EXPECT_EQ(first, second);
        EXPECT_EQ(information.GrantedAccess, EVENT_ALL_ACCESS);
        ObDereferenceObject(first);
        ObDereferenceObject(second);
    }
    RULE("ZwQueryObject function", "ObjectBasicInformation: rights, handles and references") {
        EXPECT_STATUS(ZwQueryObject(one, 0, &basic, sizeof(basic), &length), STATUS_SUCCESS);
        EXPECT(basic.GrantedAccess == EVENT_ALL_ACCESS && basic.HandleCount == 2);
        EXPECT_STATUS(ZwQueryObject(one, 0, &basic, 8, &length), STATUS_INFO_LENGTH_MISMATCH);
        EXPECT_STATUS(ZwQueryObject((HANDLE)8, 0, &basic, sizeof(basic), &length), STATUS_INVALID_HANDLE);
    }
    RULE("ZwQueryObject function", "ObjectTypeInformation: the type's name") {
        struct {
            PUBLIC_OBJECT_TYPE_INFORMATION type;
            WCHAR room[32];
        } told;
        UNICODE_STRING event = RTL_CONSTANT_STRING(L"Event");
        EXPECT_STATUS(ZwQueryObject(one, 2, &told, sizeof(told), &length), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&told.type.TypeName, &event, FALSE));
    }
    RULE("ZwDuplicateObject function", "DUPLICATE_CLOSE_SOURCE closes the source") {
        HANDLE three;
        EXPECT_STATUS(ZwDuplicateObject(ZwCurrentProcess(), two, ZwCurrentProcess(), &three, 0, 0,
                                        DUPLICATE_SAME_ACCESS | DUPLICATE_CLOSE_SOURCE), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(two), STATUS_INVALID_HANDLE);
        two = three;
    }
    RULE("ZwWaitForMultipleObjects function", "any or all of several handles") {
        HANDLE other;
        EXPECT_STATUS(ZwCreateEvent(&other, EVENT_ALL_ACCESS, NULL, NotificationEvent, TRUE), STATUS_SUCCESS);
        both[0] = one;
        both[1] = other;
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, both, WaitAny, FALSE, &now), STATUS_WAIT_0 + 1);
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, both, WaitAll, FALSE, &now), STATUS_TIMEOUT);
        ZwSetEvent(one, NULL);
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, both, WaitAll, FALSE, &now), STATUS_WAIT_0);
        EXPECT_STATUS(ZwWaitForMultipleObjects(0, both, WaitAll, FALSE, &now), STATUS_INVALID_PARAMETER_1);
        ZwClose(other);
        EXPECT_STATUS(ZwWaitForMultipleObjects(2, both, WaitAny, FALSE, &now), STATUS_INVALID_HANDLE);
    }
    RULE("Nt and Zw Versions of the Native System Services Routines", "a driver may call either") {
        EXPECT_STATUS(NtClose(two), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(two), STATUS_INVALID_HANDLE);
    }
    ZwClose(one);
    RULE("IoGetInitialStack function", "the end of the current stack; every thread here is the system's") {
        ULONG_PTR low, high;
        IoGetStackLimits(&low, &high);
        EXPECT_EQ((ULONG_PTR)IoGetInitialStack(), high);
        EXPECT(IoIsSystemThread(PsGetCurrentThread()));
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    threads();
    handles();
    types();
    by_name(driver, path);
    duplicates();
}

SUITE("Objects")
