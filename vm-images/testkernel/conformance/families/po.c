/* Power: what drivers that are no plug and play drivers call of the power manager. */
#include <check.h>

static const GUID power_source = { 0x5D3E9A59, 0xE9D5, 0x4B00, { 0xA6, 0xBD, 0xFF, 0x34, 0xFF, 0x51, 0x65, 0x48 } };

static PDEVICE_OBJECT low;
static UCHAR minor;

static NTSTATUS NTAPI dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    (void)device;
    minor = IoGetCurrentIrpStackLocation(irp)->MinorFunction;
    PoStartNextPowerIrp(irp);
    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static NTSTATUS NTAPI keep(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
    (void)device;
    (void)irp;
    (*(LONG *)context)++;
    return STATUS_MORE_PROCESSING_REQUIRED;
}

static struct {
    KEVENT called;
    GUID setting;
    ULONG value, length;
    PVOID context;
    KIRQL irql;
} told;

static NTSTATUS NTAPI setting_callback(LPCGUID setting, PVOID value, ULONG length, PVOID context)
{
    told.setting = *setting;
    told.value = *(PULONG)value;
    told.length = length;
    told.context = context;
    told.irql = KeGetCurrentIrql();
    KeSetEvent(&told.called, 0, FALSE);
    return STATUS_SUCCESS;
}

static void requests(void)
{
    RULE("PoCallDriver function", "sends a power IRP to the next driver; at DISPATCH_LEVEL too") {
        LONG calls = 0;
        PIRP irp = IoAllocateIrp(low->StackSize, FALSE);
        KIRQL irql;
        NTSTATUS status;
        IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_POWER;
        IoGetNextIrpStackLocation(irp)->MinorFunction = IRP_MN_QUERY_POWER;
        IoSetCompletionRoutine(irp, keep, &calls, TRUE, TRUE, TRUE);
        minor = 0xFF;
        irql = KeRaiseIrqlToDpcLevel();
        status = PoCallDriver(low, irp);
        KeLowerIrql(irql);
        EXPECT_STATUS(status, STATUS_SUCCESS);
        EXPECT_EQ(minor, IRP_MN_QUERY_POWER);
        EXPECT_EQ(calls, 1);
        IoFreeIrp(irp);
    }
    RULE("PoSetPowerState function", "returns the device's power state before") {
        POWER_STATE on = { .DeviceState = PowerDeviceD0 }, off = { .DeviceState = PowerDeviceD3 };
        PoSetPowerState(low, DevicePowerState, on);
        EXPECT_EQ(PoSetPowerState(low, DevicePowerState, off).DeviceState, PowerDeviceD0);
        EXPECT_EQ(PoSetPowerState(low, DevicePowerState, on).DeviceState, PowerDeviceD3);
    }
    RULE("PoRegisterSystemState function", "a handle, for PoUnregisterSystemState; NULL for flags that are none") {
        PVOID handle = PoRegisterSystemState(NULL, ES_CONTINUOUS | ES_SYSTEM_REQUIRED);
        EXPECT(handle != NULL);
        EXPECT(PoRegisterSystemState(handle, ES_CONTINUOUS | ES_DISPLAY_REQUIRED) == handle);
        PoUnregisterSystemState(handle);
        EXPECT(PoRegisterSystemState(NULL, 0x40000000) == NULL);
    }
    RULE("PoSetSystemState function", "at DISPATCH_LEVEL or below") {
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        PoSetSystemState(ES_SYSTEM_REQUIRED);
        EXPECT_EQ(KeGetCurrentIrql(), DISPATCH_LEVEL);
        KeLowerIrql(irql);
    }
    RULE("PoCreatePowerRequest function", "an object whose kinds are set and cleared, until it is deleted") {
        COUNTED_REASON_CONTEXT reason;
        UNICODE_STRING why = RTL_CONSTANT_STRING(L"conformance");
        PVOID request = NULL;
        RtlZeroMemory(&reason, sizeof(reason));
        reason.Flags = 1;
        reason.SimpleString = why;
        EXPECT_STATUS(PoCreatePowerRequest(&request, low, &reason), STATUS_SUCCESS);
        EXPECT(request != NULL);
        EXPECT_STATUS(PoSetPowerRequest(request, PowerRequestSystemRequired), STATUS_SUCCESS);
        EXPECT_STATUS(PoSetPowerRequest(request, PowerRequestSystemRequired), STATUS_SUCCESS);
        EXPECT_STATUS(PoClearPowerRequest(request, PowerRequestSystemRequired), STATUS_SUCCESS);
        EXPECT_STATUS(PoClearPowerRequest(request, PowerRequestSystemRequired), STATUS_SUCCESS);
        EXPECT(!NT_SUCCESS(PoSetPowerRequest(request, (POWER_REQUEST_TYPE)77)));
        PoDeletePowerRequest(request);
    }
}

static void settings(void)
{
    PVOID handle = NULL;
    LARGE_INTEGER patience = after_us(5000000);
    GUID nobodys = power_source;

    KeInitializeEvent(&told.called, SynchronizationEvent, FALSE);
    RULE("PoRegisterPowerSettingCallback function", "the callback is told the value at once, at PASSIVE_LEVEL") {
        EXPECT_STATUS(PoRegisterPowerSettingCallback(low, &power_source, setting_callback, &told, &handle), STATUS_SUCCESS);
        EXPECT(handle != NULL);
        EXPECT_STATUS(KeWaitForSingleObject(&told.called, Executive, KernelMode, FALSE, &patience), STATUS_SUCCESS);
        EXPECT(RtlCompareMemory(&told.setting, &power_source, sizeof(GUID)) == sizeof(GUID));
        EXPECT_EQ(told.length, sizeof(ULONG));
        EXPECT(told.value <= 2);
        EXPECT(told.context == &told);
        EXPECT_EQ(told.irql, PASSIVE_LEVEL);
    }
    RULE("PoUnregisterPowerSettingCallback function", "STATUS_SUCCESS; no call comes any more") {
        EXPECT_STATUS(PoUnregisterPowerSettingCallback(handle), STATUS_SUCCESS);
        KeClearEvent(&told.called);
        patience = after_us(20000);
        EXPECT_STATUS(KeWaitForSingleObject(&told.called, Executive, KernelMode, FALSE, &patience), STATUS_TIMEOUT);
    }
    RULE("PoRegisterPowerSettingCallback function", "takes any setting, and without a device") {
        nobodys.Data1++;
        EXPECT_STATUS(PoRegisterPowerSettingCallback(NULL, &nobodys, setting_callback, NULL, &handle), STATUS_SUCCESS);
        EXPECT_STATUS(PoUnregisterPowerSettingCallback(handle), STATUS_SUCCESS);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)path;
    driver->MajorFunction[IRP_MJ_POWER] = dispatch;
    IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &low);
    low->Flags &= ~DO_DEVICE_INITIALIZING;
    requests();
    settings();
    IoDeleteDevice(low);
}

SUITE("Po")
