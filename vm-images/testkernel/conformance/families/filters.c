// build: -Wl,--forceinteg
/* Drivers that filter: what is done to the registry's keys, and to handles for processes and threads. */
#include <check.h>

static struct {
    ULONG classes[24];
    unsigned count;
    PVOID object;
    PVOID context;
    NTSTATUS status;
    WCHAR name[8];
    USHORT name_length;
    ULONG type;
    ULONG size;
    KIRQL irql;
    PVOID pre;
    PVOID call_context;
    PVOID open_object;
    int complete;
} seen;

static REG_NOTIFY_CLASS refuse = (REG_NOTIFY_CLASS)-1;
static NTSTATUS refusal;
static HANDLE only_thread;

static NTSTATUS NTAPI filter(PVOID context, PVOID class, PVOID information)
{
    REG_NOTIFY_CLASS what = (REG_NOTIFY_CLASS)(ULONG_PTR)class;
    if (PsGetCurrentThreadId() != only_thread)
        return STATUS_SUCCESS;
    if (seen.count < 24)
        seen.classes[seen.count++] = what;
    seen.context = context;
    seen.irql = KeGetCurrentIrql();
    if (what == RegNtPreSetValueKey) {
        PREG_SET_VALUE_KEY_INFORMATION set = information;
        seen.object = set->Object;
        seen.name_length = set->ValueName->Length;
        RtlCopyMemory(seen.name, set->ValueName->Buffer, set->ValueName->Length < 16 ? set->ValueName->Length : 16);
        seen.type = set->Type;
        seen.size = set->DataSize;
        set->CallContext = &seen;
        seen.pre = set;
    }
    if (what == RegNtPostSetValueKey) {
        PREG_POST_OPERATION_INFORMATION post = information;
        seen.status = post->Status;
        seen.call_context = post->CallContext;
        seen.complete = post->PreInformation == seen.pre && post->Object == seen.object;
    }
    if (what == RegNtPostOpenKeyEx)
        seen.open_object = ((PREG_POST_OPERATION_INFORMATION)information)->Object;
    if (what == refuse) {
        if (what == RegNtPostQueryValueKey)
            ((PREG_POST_OPERATION_INFORMATION)information)->ReturnStatus = STATUS_DEVICE_BUSY;
        return refusal;
    }
    return STATUS_SUCCESS;
}

static OBJECT_ATTRIBUTES *named(HANDLE root, PUNICODE_STRING name)
{
    static OBJECT_ATTRIBUTES attributes;
    InitializeObjectAttributes(&attributes, name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, root, NULL);
    return &attributes;
}

static void forget(void)
{
    RtlZeroMemory(&seen, sizeof(seen));
    refuse = (REG_NOTIFY_CLASS)-1;
}

static int saw(unsigned first, ULONG pre, ULONG post)
{
    return seen.count == first + 2 && seen.classes[first] == pre && seen.classes[first + 1] == post;
}

static void registry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    UNICODE_STRING altitude = RTL_CONSTANT_STRING(L"360055.5"), value = RTL_CONSTANT_STRING(L"Filter");
    UNICODE_STRING missing = RTL_CONSTANT_STRING(L"NoSuchKey"), subkey = RTL_CONSTANT_STRING(L"Filtered");
    LARGE_INTEGER cookie, second;
    HANDLE key = NULL, other;
    ULONG number = 5, length, major = 0, minor = 0;
    KEY_VALUE_PARTIAL_INFORMATION partial;

    only_thread = PsGetCurrentThreadId();
    RULE("CmGetCallbackVersion function", "1.1; either may be left out") {
        CmGetCallbackVersion(&major, &minor);
        EXPECT(major == 1 && minor == 1);
        CmGetCallbackVersion(NULL, NULL);
    }
    RULE("CmRegisterCallbackEx function", "STATUS_SUCCESS and a cookie; STATUS_FLT_INSTANCE_ALTITUDE_COLLISION for the same altitude") {
        EXPECT_STATUS(CmRegisterCallbackEx(filter, &altitude, driver, &number, &cookie, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(CmRegisterCallbackEx(filter, &altitude, driver, &number, &second, NULL), 0xC01C0011);
    }
    RULE("REG_NOTIFY_CLASS enumeration", "RegNtPreOpenKeyEx and RegNtPostOpenKeyEx, at PASSIVE_LEVEL, with the context") {
        forget();
        EXPECT_STATUS(ZwOpenKey(&key, KEY_ALL_ACCESS, named(NULL, path)), STATUS_SUCCESS);
        EXPECT(saw(0, RegNtPreOpenKeyEx, RegNtPostOpenKeyEx));
        EXPECT_EQ(seen.context, &number);
        EXPECT_EQ(seen.irql, PASSIVE_LEVEL);
        EXPECT(seen.open_object != NULL);
    }
    RULE("REG_POST_OPERATION_INFORMATION structure", "Object is NULL where an open failed") {
        forget();
        EXPECT_STATUS(ZwOpenKey(&other, KEY_ALL_ACCESS, named(key, &missing)), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT(saw(0, RegNtPreOpenKeyEx, RegNtPostOpenKeyEx));
        EXPECT_EQ(seen.open_object, NULL);
    }
    RULE("REG_SET_VALUE_KEY_INFORMATION structure", "key, name, type and size; the same object for the same handle") {
        PVOID object = NULL;
        forget();
        EXPECT_STATUS(ZwSetValueKey(key, &value, 0, REG_DWORD, &number, sizeof(number)), STATUS_SUCCESS);
        EXPECT(saw(0, RegNtPreSetValueKey, RegNtPostSetValueKey));
        EXPECT(seen.name_length == value.Length && RtlCompareMemory(seen.name, value.Buffer, 12) == 12);
        EXPECT(seen.type == REG_DWORD && seen.size == 4);
        EXPECT_STATUS(ObReferenceObjectByHandle(key, 0, *CmKeyObjectType, KernelMode, &object, NULL), STATUS_SUCCESS);
        EXPECT_EQ(object, seen.object);
        if (object)
            ObDereferenceObject(object);
    }
    RULE("REG_POST_OPERATION_INFORMATION structure", "Status, CallContext and PreInformation are those of the same operation") {
        EXPECT_STATUS(seen.status, STATUS_SUCCESS);
        EXPECT_EQ(seen.call_context, &seen);
        EXPECT(seen.complete);
    }
    RULE("CmCallbackGetKeyObjectID function", "a key's number and path, whichever of its objects is given") {
        PCUNICODE_STRING name = NULL;
        ULONG_PTR id = 0, again = 1;
        PVOID object = NULL;
        ObReferenceObjectByHandle(key, 0, *CmKeyObjectType, KernelMode, &object, NULL);
        EXPECT_STATUS(ZwOpenKey(&other, KEY_READ, named(NULL, path)), STATUS_SUCCESS);
        EXPECT_STATUS(CmCallbackGetKeyObjectID(&cookie, object, &id, &name), STATUS_SUCCESS);
        EXPECT(name && RtlEqualUnicodeString(name, path, TRUE));
        ObDereferenceObject(object);
        ObReferenceObjectByHandle(other, 0, *CmKeyObjectType, KernelMode, &object, NULL);
        EXPECT_STATUS(CmCallbackGetKeyObjectID(&cookie, object, &again, NULL), STATUS_SUCCESS);
        EXPECT_EQ(id, again);
        ObDereferenceObject(object);
        ZwClose(other);
    }
    RULE("Handling Notifications", "an error before an operation is the caller's answer: it does not happen, and there is no after") {
        forget();
        refuse = RegNtPreDeleteValueKey;
        refusal = STATUS_ACCESS_DENIED;
        EXPECT_STATUS(ZwDeleteValueKey(key, &value), STATUS_ACCESS_DENIED);
        EXPECT_EQ(seen.count, 1);
        refuse = (REG_NOTIFY_CLASS)-1;
        EXPECT_STATUS(ZwQueryValueKey(key, &value, KeyValuePartialInformation, &partial, sizeof(partial), &length), STATUS_SUCCESS);
    }
    RULE("Handling Notifications", "STATUS_CALLBACK_BYPASS before it: it does not happen, and the caller gets STATUS_SUCCESS") {
        forget();
        refuse = RegNtPreDeleteValueKey;
        refusal = 0xC0000503;
        EXPECT_STATUS(ZwDeleteValueKey(key, &value), STATUS_SUCCESS);
        refuse = (REG_NOTIFY_CLASS)-1;
        EXPECT_STATUS(ZwQueryValueKey(key, &value, KeyValuePartialInformation, &partial, sizeof(partial), &length), STATUS_SUCCESS);
    }
    RULE("Handling Notifications", "STATUS_CALLBACK_BYPASS after it: the caller gets ReturnStatus") {
        forget();
        refuse = RegNtPostQueryValueKey;
        refusal = 0xC0000503;
        EXPECT_STATUS(ZwQueryValueKey(key, &value, KeyValuePartialInformation, &partial, sizeof(partial), &length), STATUS_DEVICE_BUSY);
        EXPECT(saw(0, RegNtPreQueryValueKey, RegNtPostQueryValueKey));
    }
    RULE("REG_NOTIFY_CLASS enumeration", "creating, deleting and closing a key; describing and enumerating it") {
        ULONG disposition;
        UCHAR room[256];
        forget();
        EXPECT_STATUS(ZwCreateKey(&other, KEY_ALL_ACCESS, named(key, &subkey), 0, NULL, 0, &disposition), STATUS_SUCCESS);
        EXPECT(saw(0, RegNtPreCreateKeyEx, RegNtPostCreateKeyEx));
        EXPECT_STATUS(ZwQueryKey(other, KeyBasicInformation, room, sizeof(room), &length), STATUS_SUCCESS);
        EXPECT(saw(2, RegNtPreQueryKey, RegNtPostQueryKey));
        EXPECT_STATUS(ZwEnumerateKey(key, 0, KeyBasicInformation, room, sizeof(room), &length), STATUS_SUCCESS);
        EXPECT(saw(4, RegNtPreEnumerateKey, RegNtPostEnumerateKey));
        EXPECT_STATUS(ZwEnumerateValueKey(key, 0, KeyValueBasicInformation, room, sizeof(room), &length), STATUS_SUCCESS);
        EXPECT(saw(6, RegNtPreEnumerateValueKey, RegNtPostEnumerateValueKey));
        EXPECT_STATUS(ZwDeleteKey(other), STATUS_SUCCESS);
        EXPECT(saw(8, RegNtPreDeleteKey, RegNtPostDeleteKey));
        EXPECT_STATUS(ZwClose(other), STATUS_SUCCESS);
        EXPECT(saw(10, RegNtPreKeyHandleClose, RegNtPostKeyHandleClose));
    }
    RULE("RtlWriteRegistryValue function", "is an operation on the registry as any other") {
        forget();
        EXPECT_STATUS(RtlWriteRegistryValue(RTL_REGISTRY_HANDLE, (PCWSTR)key, L"Filter", REG_DWORD, &number, 4), STATUS_SUCCESS);
        EXPECT(seen.count >= 2 && seen.classes[0] == RegNtPreSetValueKey && seen.classes[1] == RegNtPostSetValueKey);
    }
    RULE("CmUnRegisterCallback function", "the routine is told of nothing more; STATUS_INVALID_PARAMETER for a cookie that is none") {
        EXPECT_STATUS(CmUnRegisterCallback(cookie), STATUS_SUCCESS);
        forget();
        EXPECT_STATUS(ZwDeleteValueKey(key, &value), STATUS_SUCCESS);
        EXPECT_EQ(seen.count, 0);
        EXPECT_STATUS(CmUnRegisterCallback(cookie), STATUS_INVALID_PARAMETER);
    }
    RULE("CmRegisterCallback function", "without an altitude") {
        EXPECT_STATUS(CmRegisterCallback(filter, NULL, &cookie), STATUS_SUCCESS);
        EXPECT_STATUS(CmRegisterCallback(filter, NULL, &second), STATUS_SUCCESS);
        EXPECT(cookie.QuadPart != second.QuadPart);
        EXPECT_STATUS(CmUnRegisterCallback(second), STATUS_SUCCESS);
        EXPECT_STATUS(CmUnRegisterCallback(cookie), STATUS_SUCCESS);
    }
    ZwClose(key);
}

static struct {
    unsigned before, after;
    PVOID object;
    POBJECT_TYPE type;
    OB_OPERATION operation;
    ACCESS_MASK original, granted;
    PVOID context, call_context;
    NTSTATUS status;
    ULONG kernel;
} handle_seen;

#ifndef THREAD_QUERY_INFORMATION
#define THREAD_QUERY_INFORMATION 0x0040
#endif

static OB_PREOP_CALLBACK_STATUS NTAPI before_handle(PVOID context, POB_PRE_OPERATION_INFORMATION information)
{
    if (PsGetCurrentThreadId() != only_thread)
        return OB_PREOP_SUCCESS;
    handle_seen.before++;
    handle_seen.object = information->Object;
    handle_seen.type = information->ObjectType;
    handle_seen.operation = information->Operation;
    handle_seen.context = context;
    handle_seen.kernel = information->KernelHandle;
    handle_seen.original = information->Parameters->CreateHandleInformation.OriginalDesiredAccess;
    information->CallContext = &handle_seen;
    information->Parameters->CreateHandleInformation.DesiredAccess &= ~THREAD_TERMINATE;
    return OB_PREOP_SUCCESS;
}

static VOID NTAPI after_handle(PVOID context, POB_POST_OPERATION_INFORMATION information)
{
    if (PsGetCurrentThreadId() != only_thread)
        return;
    (void)context;
    handle_seen.after++;
    handle_seen.call_context = information->CallContext;
    handle_seen.status = information->ReturnStatus;
    handle_seen.granted = information->Parameters->CreateHandleInformation.GrantedAccess;
}

static void handles(void)
{
    OB_OPERATION_REGISTRATION operation = { PsThreadType, OB_OPERATION_HANDLE_CREATE | OB_OPERATION_HANDLE_DUPLICATE, before_handle,
                                            after_handle };
    OB_CALLBACK_REGISTRATION registration = { OB_FLT_REGISTRATION_VERSION, 1, RTL_CONSTANT_STRING(L"361000"), &registration, &operation };
    PVOID handle = NULL, second;
    HANDLE thread, copy;

    RULE("ObGetFilterVersion function", "OB_FLT_REGISTRATION_VERSION") {
        EXPECT_EQ(ObGetFilterVersion(), OB_FLT_REGISTRATION_VERSION);
    }
    RULE("ObRegisterCallbacks function", "STATUS_INVALID_PARAMETER for another version, for no operation, and for other types of objects") {
        OB_OPERATION_REGISTRATION nothing = { PsThreadType, 0, before_handle, NULL };
        registration.Version = 0x200;
        EXPECT_STATUS(ObRegisterCallbacks(&registration, &handle), STATUS_INVALID_PARAMETER);
        registration.Version = OB_FLT_REGISTRATION_VERSION;
        registration.OperationRegistration = &nothing;
        EXPECT_STATUS(ObRegisterCallbacks(&registration, &handle), STATUS_INVALID_PARAMETER);
        nothing.Operations = OB_OPERATION_HANDLE_CREATE;
        nothing.ObjectType = IoFileObjectType;
        EXPECT_STATUS(ObRegisterCallbacks(&registration, &handle), STATUS_INVALID_PARAMETER);
        registration.OperationRegistration = &operation;
    }
    RULE("ObRegisterCallbacks function", "STATUS_SUCCESS; STATUS_FLT_INSTANCE_ALTITUDE_COLLISION for the same altitude again") {
        EXPECT_STATUS(ObRegisterCallbacks(&registration, &handle), STATUS_SUCCESS);
        EXPECT_STATUS(ObRegisterCallbacks(&registration, &second), 0xC01C0011);
    }
    if (!handle)
        return;
    RULE("OB_PRE_OPERATION_INFORMATION structure", "object, type, rights; a kernel handle; the registration's context") {
        EXPECT_STATUS(ObOpenObjectByPointer(PsGetCurrentThread(), OBJ_KERNEL_HANDLE, NULL, THREAD_TERMINATE | THREAD_QUERY_INFORMATION,
                                            *PsThreadType, KernelMode, &thread), STATUS_SUCCESS);
        EXPECT(handle_seen.before == 1 && handle_seen.object == PsGetCurrentThread() && handle_seen.type == *PsThreadType);
        EXPECT(handle_seen.operation == OB_OPERATION_HANDLE_CREATE && handle_seen.kernel == 1);
        EXPECT_EQ(handle_seen.original, THREAD_TERMINATE | THREAD_QUERY_INFORMATION);
        EXPECT_EQ(handle_seen.context, &registration);
    }
    RULE("OB_POST_OPERATION_INFORMATION structure", "the call's context, its status, and the rights that were left") {
        OBJECT_HANDLE_INFORMATION information;
        PVOID object = NULL;
        EXPECT(handle_seen.after == 1 && handle_seen.call_context == &handle_seen);
        EXPECT_STATUS(handle_seen.status, STATUS_SUCCESS);
        EXPECT_EQ(handle_seen.granted, THREAD_QUERY_INFORMATION);
        EXPECT_STATUS(ObReferenceObjectByHandle(thread, 0, *PsThreadType, KernelMode, &object, &information), STATUS_SUCCESS);
        EXPECT_EQ(information.GrantedAccess, THREAD_QUERY_INFORMATION);
        ObDereferenceObject(object);
    }
    RULE("OB_PRE_OPERATION_INFORMATION structure", "OB_OPERATION_HANDLE_DUPLICATE where a handle is duplicated") {
        EXPECT_STATUS(ZwDuplicateObject(ZwCurrentProcess(), thread, ZwCurrentProcess(), &copy, 0, 0, DUPLICATE_SAME_ACCESS), STATUS_SUCCESS);
        EXPECT(handle_seen.before == 2 && handle_seen.operation == OB_OPERATION_HANDLE_DUPLICATE);
        ZwClose(copy);
    }
    RULE("OB_OPERATION_REGISTRATION structure", "only of the types that were registered") {
        EXPECT_STATUS(ObOpenObjectByPointer(PsGetCurrentProcess(), OBJ_KERNEL_HANDLE, NULL, 0, *PsProcessType, KernelMode, &copy),
                      STATUS_SUCCESS);
        ZwClose(copy);
        EXPECT_EQ(handle_seen.before, 2);
    }
    RULE("ObUnRegisterCallbacks function", "nobody is told any more, and the altitude is free") {
        ObUnRegisterCallbacks(handle);
        EXPECT_STATUS(ZwDuplicateObject(ZwCurrentProcess(), thread, ZwCurrentProcess(), &copy, 0, 0, DUPLICATE_SAME_ACCESS), STATUS_SUCCESS);
        EXPECT_EQ(handle_seen.before, 2);
        ZwClose(copy);
        EXPECT_STATUS(ObRegisterCallbacks(&registration, &handle), STATUS_SUCCESS);
        ObUnRegisterCallbacks(handle);
    }
    ZwClose(thread);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    registry(driver, path);
    handles();
}

SUITE("Filters")
