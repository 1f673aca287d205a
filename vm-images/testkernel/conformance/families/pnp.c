/* Device interfaces of a device that the driver detected itself, and notifications of them. */
#include <check.h>
#include <devpropdef.h>

static const GUID wanted = { 0xC0F0AACE, 0x1111, 0x4222, { 0x80, 1, 2, 3, 4, 5, 6, 7 } };
static const GUID another = { 0xC0F0AACE, 0x1111, 0x4223, { 0x80, 1, 2, 3, 4, 5, 6, 7 } };
static const GUID arrival = { 0xCB3A4004, 0x46F0, 0x11D0, { 0xB0, 0x8F, 0x00, 0x60, 0x97, 0x13, 0x05, 0x3F } };
static const GUID removal = { 0xCB3A4005, 0x46F0, 0x11D0, { 0xB0, 0x8F, 0x00, 0x60, 0x97, 0x13, 0x05, 0x3F } };

static struct {
    KEVENT happened;
    volatile LONG calls;
    GUID event, class;
    USHORT version, size;
    PVOID context;
    KIRQL irql;
    ULONG length;
    WCHAR name[200];
} heard;

static NTSTATUS NTAPI hear(PVOID structure, PVOID context)
{
    PDEVICE_INTERFACE_CHANGE_NOTIFICATION notification = structure;
    heard.event = notification->Event;
    heard.class = notification->InterfaceClassGuid;
    heard.version = notification->Version;
    heard.size = notification->Size;
    heard.context = context;
    heard.irql = KeGetCurrentIrql();
    heard.length = min(notification->SymbolicLinkName->Length, sizeof(heard.name));
    RtlCopyMemory(heard.name, notification->SymbolicLinkName->Buffer, heard.length);
    InterlockedIncrement(&heard.calls);
    KeSetEvent(&heard.happened, 0, FALSE);
    return STATUS_SUCCESS;
}

static int same(const GUID *a, const GUID *b)
{
    return RtlCompareMemory(a, b, sizeof(GUID)) == sizeof(GUID);
}

static int heard_of(PUNICODE_STRING name, const GUID *event)
{
    LARGE_INTEGER patience = after_us(5000000);
    return KeWaitForSingleObject(&heard.happened, Executive, KernelMode, FALSE, &patience) == STATUS_SUCCESS
        && same(&heard.event, event) && heard.length == name->Length
        && RtlCompareMemory(heard.name, name->Buffer, name->Length) == name->Length;
}

static PDEVICE_OBJECT detect(PDRIVER_OBJECT driver)
{
    CM_RESOURCE_LIST list;
    PDEVICE_OBJECT device = NULL;

    RtlZeroMemory(&list, sizeof(list));
    list.Count = 1;
    list.List[0].InterfaceType = Isa;
    list.List[0].PartialResourceList.Version = list.List[0].PartialResourceList.Revision = 1;
    list.List[0].PartialResourceList.Count = 1;
    list.List[0].PartialResourceList.PartialDescriptors[0].Type = CmResourceTypePort;
    list.List[0].PartialResourceList.PartialDescriptors[0].ShareDisposition = CmResourceShareDeviceExclusive;
    list.List[0].PartialResourceList.PartialDescriptors[0].u.Port.Start.QuadPart = 0x260;
    list.List[0].PartialResourceList.PartialDescriptors[0].u.Port.Length = 8;
    IoReportDetectedDevice(driver, Isa, 0, (ULONG)-1, &list, NULL, TRUE, &device);
    return device;
}

static void kept(PDEVICE_OBJECT pdo, PDEVICE_OBJECT own)
{
    static const DEVPROPKEY property = { { 0xC0F0AACE, 0x1111, 0x4224, { 0x80, 1, 2, 3, 4, 5, 6, 7 } }, 2 };
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Calibration");
    KEY_VALUE_PARTIAL_INFORMATION partial;
    ULONG number = 0x1234, read = 0, needed = 0;
    DEVPROPTYPE type = 0;
    HANDLE key;

    RULE("IoOpenDeviceRegistryKey function", "a key of the device's own, in which values stay") {
        EXPECT_STATUS(IoOpenDeviceRegistryKey(pdo, PLUGPLAY_REGKEY_DEVICE, KEY_ALL_ACCESS, &key), STATUS_SUCCESS);
        EXPECT_STATUS(ZwSetValueKey(key, &name, 0, REG_DWORD, &number, sizeof(number)), STATUS_SUCCESS);
        ZwClose(key);
        EXPECT_STATUS(IoOpenDeviceRegistryKey(pdo, PLUGPLAY_REGKEY_DEVICE, KEY_ALL_ACCESS, &key), STATUS_SUCCESS);
        EXPECT_STATUS(ZwQueryValueKey(key, &name, KeyValuePartialInformation, &partial, sizeof(partial), &needed), STATUS_SUCCESS);
        EXPECT_STATUS(ZwDeleteValueKey(key, &name), STATUS_SUCCESS);
        ZwClose(key);
    }
    RULE("IoOpenDeviceRegistryKey function", "STATUS_INVALID_DEVICE_REQUEST for what is no PDO, STATUS_INVALID_PARAMETER for no kind of key") {
        EXPECT_STATUS(IoOpenDeviceRegistryKey(own, PLUGPLAY_REGKEY_DEVICE, KEY_READ, &key), STATUS_INVALID_DEVICE_REQUEST);
        EXPECT_STATUS(IoOpenDeviceRegistryKey(pdo, 0, KEY_READ, &key), STATUS_INVALID_PARAMETER);
    }
    RULE("IoSetDevicePropertyData function", "a property of the driver's own; IoGetDevicePropertyData gives it with its type") {
        EXPECT_STATUS(IoSetDevicePropertyData(pdo, &property, 0, 0, DEVPROP_TYPE_UINT32, sizeof(number), &number), STATUS_SUCCESS);
        EXPECT_STATUS(IoGetDevicePropertyData(pdo, &property, 0, 0, sizeof(read), &read, &needed, &type), STATUS_SUCCESS);
        EXPECT(read == number && needed == 4 && type == DEVPROP_TYPE_UINT32);
    }
    RULE("IoGetDevicePropertyData function", "STATUS_BUFFER_TOO_SMALL with the size that it takes; STATUS_OBJECT_NAME_NOT_FOUND") {
        needed = 0;
        EXPECT_STATUS(IoGetDevicePropertyData(pdo, &property, 0, 0, 2, &read, &needed, &type), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(needed, 4);
        EXPECT_STATUS(IoSetDevicePropertyData(pdo, &property, 0, 0, DEVPROP_TYPE_EMPTY, 0, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(IoGetDevicePropertyData(pdo, &property, 0, 0, sizeof(read), &read, &needed, &type), STATUS_OBJECT_NAME_NOT_FOUND);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    PDEVICE_OBJECT pdo = detect(driver), own = NULL;
    UNICODE_STRING name = { 0, 0, NULL }, again = { 0, 0, NULL }, alias = { 0, 0, NULL };
    UNICODE_STRING reference = RTL_CONSTANT_STRING(L"part1");
    PWSTR list = NULL;
    PVOID entry = NULL, second = NULL;

    (void)path;
    KeInitializeEvent(&heard.happened, SynchronizationEvent, FALSE);
    IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &own);
    RULE("IoRegisterDeviceInterface function", "STATUS_INVALID_DEVICE_REQUEST for what is no physical device object") {
        EXPECT_STATUS(IoRegisterDeviceInterface(own, &wanted, NULL, &name), STATUS_INVALID_DEVICE_REQUEST);
    }
    RULE("IoRegisterDeviceInterface function", "gives the interface's name, the same one for the same interface") {
        EXPECT_STATUS(IoRegisterDeviceInterface(pdo, &wanted, &reference, &name), STATUS_SUCCESS);
        EXPECT(name.Buffer != NULL && name.Length > 8);
        EXPECT_STATUS(IoRegisterDeviceInterface(pdo, &wanted, &reference, &again), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&name, &again, TRUE));
        RtlFreeUnicodeString(&again);
    }
    if (!name.Buffer)
        return;
    RULE("IoGetDeviceInterfaces function", "only those that are enabled, unless DEVICE_INTERFACE_INCLUDE_NONACTIVE") {
        EXPECT_STATUS(IoGetDeviceInterfaces(&wanted, NULL, 0, &list), STATUS_SUCCESS);
        EXPECT(list && list[0] == 0);
        ExFreePool(list);
        EXPECT_STATUS(IoGetDeviceInterfaces(&wanted, pdo, DEVICE_INTERFACE_INCLUDE_NONACTIVE, &list), STATUS_SUCCESS);
        EXPECT(list && RtlCompareMemory(list, name.Buffer, name.Length) == name.Length);
        EXPECT(list[name.Length / 2] == 0 && list[name.Length / 2 + 1] == 0);
        ExFreePool(list);
    }
    RULE("IoRegisterPlugPlayNotification function", "STATUS_SUCCESS and an entry; nothing is told of what is not enabled") {
        EXPECT_STATUS(IoRegisterPlugPlayNotification(EventCategoryDeviceInterfaceChange,
                                                     PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES, (PVOID)&wanted,
                                                     driver, hear, &heard, &entry),
                      STATUS_SUCCESS);
        EXPECT(entry != NULL);
        EXPECT_EQ(heard.calls, 0);
    }
    RULE("IoSetDeviceInterfaceState function", "STATUS_OBJECT_NAME_NOT_FOUND where what is disabled is to be disabled") {
        EXPECT_STATUS(IoSetDeviceInterfaceState(&name, FALSE), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("DEVICE_INTERFACE_CHANGE_NOTIFICATION structure", "an arrival: version 1, the class, and the interface's name") {
        EXPECT_STATUS(IoSetDeviceInterfaceState(&name, TRUE), STATUS_SUCCESS);
        EXPECT(heard_of(&name, &arrival));
        EXPECT_EQ(heard.version, 1);
        EXPECT_EQ(heard.size, sizeof(DEVICE_INTERFACE_CHANGE_NOTIFICATION));
        EXPECT(same(&heard.class, &wanted) && heard.context == &heard);
        EXPECT_EQ(heard.irql, PASSIVE_LEVEL);
    }
    RULE("IoSetDeviceInterfaceState function", "STATUS_OBJECT_NAME_EXISTS where it is enabled already") {
        EXPECT_STATUS(IoSetDeviceInterfaceState(&name, TRUE), STATUS_OBJECT_NAME_EXISTS);
    }
    RULE("IoSetDeviceInterfaceState function", "enabled, the name leads to the device") {
        PFILE_OBJECT file = NULL;
        PDEVICE_OBJECT top = NULL;
        NTSTATUS status = IoGetDeviceObjectPointer(&name, FILE_READ_ATTRIBUTES, &file, &top);
        /* The device's own driver may refuse to open it. */
        EXPECT(status != STATUS_OBJECT_NAME_NOT_FOUND && status != STATUS_OBJECT_PATH_NOT_FOUND);
        if (NT_SUCCESS(status))
            ObDereferenceObject(file);
    }
    RULE("IoRegisterPlugPlayNotification function", "on request tells of the interfaces that are there") {
        heard.calls = 0;
        EXPECT_STATUS(IoRegisterPlugPlayNotification(EventCategoryDeviceInterfaceChange,
                                                     PNPNOTIFY_DEVICE_INTERFACE_INCLUDE_EXISTING_INTERFACES, (PVOID)&wanted,
                                                     driver, hear, &second, &second),
                      STATUS_SUCCESS);
        EXPECT(heard_of(&name, &arrival));
        EXPECT(heard.context == &second);
        EXPECT_STATUS(IoUnregisterPlugPlayNotification(second), STATUS_SUCCESS);
    }
    RULE("IoGetDeviceInterfaceAlias function", "the interface of another class with the same reference string") {
        EXPECT_STATUS(IoGetDeviceInterfaceAlias(&name, &another, &alias), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(IoRegisterDeviceInterface(pdo, &another, &reference, &again), STATUS_SUCCESS);
        EXPECT_STATUS(IoGetDeviceInterfaceAlias(&name, &another, &alias), STATUS_SUCCESS);
        EXPECT(RtlEqualUnicodeString(&again, &alias, TRUE));
        RtlFreeUnicodeString(&alias);
        RtlFreeUnicodeString(&again);
    }
    RULE("IoSetDeviceInterfaceState function", "disabled, the name is gone and who asked is told") {
        PFILE_OBJECT file;
        PDEVICE_OBJECT top;
        EXPECT_STATUS(IoSetDeviceInterfaceState(&name, FALSE), STATUS_SUCCESS);
        EXPECT(heard_of(&name, &removal));
        EXPECT(!NT_SUCCESS(IoGetDeviceObjectPointer(&name, FILE_READ_ATTRIBUTES, &file, &top)));
    }
    RULE("IoUnregisterPlugPlayNotificationEx function", "nothing is told any more") {
        LONG calls;
        EXPECT_STATUS(IoUnregisterPlugPlayNotificationEx(entry), STATUS_SUCCESS);
        calls = heard.calls;
        IoSetDeviceInterfaceState(&name, TRUE);
        IoSetDeviceInterfaceState(&name, FALSE);
        sleep_us(20000);
        EXPECT_EQ(heard.calls, calls);
    }
    RULE("IoRegisterPlugPlayNotification function", "takes hardware profile changes, which need no data") {
        EXPECT_STATUS(IoRegisterPlugPlayNotification(EventCategoryHardwareProfileChange, 0, NULL, driver, hear, NULL, &entry),
                      STATUS_SUCCESS);
        EXPECT_STATUS(IoUnregisterPlugPlayNotificationEx(entry), STATUS_SUCCESS);
    }
    kept(pdo, own);
    RtlFreeUnicodeString(&name);
    IoDeleteDevice(own);
}

SUITE("Pnp")
