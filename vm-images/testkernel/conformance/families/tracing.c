/*
 * Event tracing for drivers that nobody traces: what WPP's code calls, activities, and WMI providers.
 */
#include "check.h"

NTSTATUS __cdecl WmiTraceMessage(TRACEHANDLE, ULONG, LPGUID, USHORT, ...);

#define GET_ID 1
#define SET_ID 2
#define CREATE_ID 3
#define GET_SET_ID 4
#define CREATE_SET_ID 5

static const GUID provider_id = { 0x51a11ced, 1, 2, { 1, 2, 3, 4, 5, 6, 7, 8 } };

static int same(const GUID *a, const GUID *b)
{
    return RtlCompareMemory(a, b, sizeof(*a)) == sizeof(*a);
}

static void sessions(void)
{
    UCHAR input[64] = { 0 };
    ULONG64 value = 0;
    ULONG required = 0;

    RULE("WmiQueryTraceInformation function", "STATUS_NOT_FOUND where there is no global logger; the size that it takes") {
        EXPECT_STATUS(WmiQueryTraceInformation(GlobalLoggerHandleClass, &value, sizeof(value), &required, NULL), STATUS_NOT_FOUND);
        EXPECT_EQ(required, sizeof(value));
    }
    RULE("WmiQueryTraceInformation function", "STATUS_INFO_LENGTH_MISMATCH where the buffer's size is not the one required") {
        EXPECT_STATUS(WmiQueryTraceInformation(TraceIdClass, &value, 3, &required, input), STATUS_INFO_LENGTH_MISMATCH);
        EXPECT_EQ(required, sizeof(ULONG));
        EXPECT_STATUS(WmiQueryTraceInformation(TraceHandleClass, &value, 4, NULL, input), STATUS_INFO_LENGTH_MISMATCH);
    }
    RULE("WmiQueryTraceInformation function", "STATUS_INVALID_PARAMETER_MIX where the caller's input is missing") {
        EXPECT_STATUS(WmiQueryTraceInformation(TraceEnableFlagsClass, &value, sizeof(ULONG), NULL, NULL),
                      STATUS_INVALID_PARAMETER_MIX);
    }
    RULE("WmiQueryTraceInformation function", "STATUS_INVALID_HANDLE for a trace handle that is none") {
        EXPECT_STATUS(WmiQueryTraceInformation(TraceEnableLevelClass, &value, sizeof(ULONG), NULL, input), STATUS_INVALID_HANDLE);
    }
    RULE("WmiQueryTraceInformation function", "STATUS_INVALID_INFO_CLASS for a type of information that is none") {
        EXPECT_STATUS(WmiQueryTraceInformation((TRACE_INFORMATION_CLASS)1000, &value, sizeof(value), NULL, NULL),
                      STATUS_INVALID_INFO_CLASS);
    }
    RULE("WmiTraceMessage function", "STATUS_INVALID_HANDLE where no session has the handle, NULL among them") {
        EXPECT_STATUS(WmiTraceMessage(0, 0, (LPGUID)&provider_id, 10, NULL, 0), STATUS_INVALID_HANDLE);
        EXPECT_STATUS(WmiTraceMessage(0xFFFFFFFF, 0, (LPGUID)&provider_id, 10, &value, sizeof(value), NULL, 0),
                      STATUS_INVALID_HANDLE);
    }
}

static void providers(void)
{
    REGHANDLE handle = 0;
    RULE("EtwRegisterClassicProvider", "a handle, that EtwUnregister gives back; found by its name, as WPP's code does") {
        UNICODE_STRING name = RTL_CONSTANT_STRING(L"EtwRegisterClassicProvider");
        NTSTATUS(NTAPI * classic)(const GUID *, ULONG, PVOID, PVOID, PREGHANDLE) = MmGetSystemRoutineAddress(&name);
        EXPECT(classic != NULL);
        if (!classic)
            continue;
        EXPECT_STATUS(classic(&provider_id, 0, NULL, NULL, &handle), STATUS_SUCCESS);
        EXPECT(handle != 0);
        EXPECT_STATUS(EtwUnregister(handle), STATUS_SUCCESS);
        EXPECT(!NT_SUCCESS(EtwUnregister(handle)));
    }
}

static GUID other_id;

static VOID NTAPI other_thread(PVOID context)
{
    (void)context;
    EtwActivityIdControl(GET_ID, &other_id);
}

static void activities(void)
{
    GUID first, second, got;
    PKTHREAD thread;

    RtlZeroMemory(&first, sizeof(first));
    RULE("EtwActivityIdControl function", "EVENT_ACTIVITY_CTRL_CREATE_ID: a new identifier each time") {
        EXPECT_STATUS(EtwActivityIdControl(CREATE_ID, &first), STATUS_SUCCESS);
        EXPECT_STATUS(EtwActivityIdControl(CREATE_ID, &second), STATUS_SUCCESS);
        EXPECT(!same(&first, &second));
    }
    RULE("EtwActivityIdControl function", "SET_ID and GET_ID: the thread's own") {
        EXPECT_STATUS(EtwActivityIdControl(SET_ID, &first), STATUS_SUCCESS);
        EXPECT_STATUS(EtwActivityIdControl(GET_ID, &got), STATUS_SUCCESS);
        EXPECT(same(&got, &first));
        other_id = first;
        thread = start_thread(other_thread, NULL);
        EXPECT(thread != NULL);
        if (thread)
            join_thread(thread);
        EXPECT(!same(&other_id, &first));
    }
    RULE("EtwActivityIdControl function", "GET_SET_ID: the old one is given, the new one is set") {
        got = provider_id;
        EXPECT_STATUS(EtwActivityIdControl(GET_SET_ID, &got), STATUS_SUCCESS);
        EXPECT(same(&got, &first));
        EXPECT_STATUS(EtwActivityIdControl(GET_ID, &got), STATUS_SUCCESS);
        EXPECT(same(&got, &provider_id));
    }
    RULE("EtwActivityIdControl function", "CREATE_SET_ID: the old one is given, a new one is made and set") {
        EXPECT_STATUS(EtwActivityIdControl(CREATE_SET_ID, &got), STATUS_SUCCESS);
        EXPECT(same(&got, &provider_id));
        EXPECT_STATUS(EtwActivityIdControl(GET_ID, &got), STATUS_SUCCESS);
        EXPECT(!same(&got, &provider_id));
    }
    RULE("EtwActivityIdControl function", "STATUS_INVALID_PARAMETER for a control code that is none") {
        EXPECT_STATUS(EtwActivityIdControl(77, &got), STATUS_INVALID_PARAMETER);
    }
}

static KEVENT asked;
static struct {
    UCHAR minor;
    ULONG_PTR provider;
    PVOID path;
    ULONG size, requests;
    KIRQL irql;
} request;

static NTSTATUS NTAPI system_control(PDEVICE_OBJECT device, PIRP irp)
{
    PIO_STACK_LOCATION location = IoGetCurrentIrpStackLocation(irp);
    ULONG size = location->Parameters.WMI.BufferSize;
    NTSTATUS status = STATUS_SUCCESS;
    (void)device;
    request.minor = location->MinorFunction;
    request.provider = location->Parameters.WMI.ProviderId;
    request.path = location->Parameters.WMI.DataPath;
    request.irql = KeGetCurrentIrql();
    request.requests++;
    irp->IoStatus.Information = sizeof(ULONG);
    if (request.requests == 1) {
        /* More than there is room for: asked again with so much. */
        *(PULONG)location->Parameters.WMI.Buffer = size + 1000;
        request.size = size + 1000;
        status = STATUS_BUFFER_TOO_SMALL;
    } else {
        request.size = request.size == size;
        irp->IoStatus.Information = 0;
        KeSetEvent(&asked, IO_NO_INCREMENT, FALSE);
    }
    irp->IoStatus.Status = status;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return status;
}

static void wmi(PDRIVER_OBJECT driver)
{
    PDEVICE_OBJECT device = NULL;
    LARGE_INTEGER patience = after_us(5000000);

    KeInitializeEvent(&asked, NotificationEvent, FALSE);
    driver->MajorFunction[IRP_MJ_SYSTEM_CONTROL] = system_control;
    if (!NT_SUCCESS(IoCreateDevice(driver, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device)))
        return;
    device->Flags &= ~DO_DEVICE_INITIALIZING;
    RULE("IoWMIRegistrationControl function", "an error where the device is not registered") {
        EXPECT_STATUS(IoWMIRegistrationControl(device, WMIREG_ACTION_DEREGISTER), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(IoWMIRegistrationControl(device, WMIREG_ACTION_REREGISTER), STATUS_INVALID_PARAMETER);
    }
    RULE("IoWMIRegistrationControl function", "WMIREG_ACTION_REGISTER: STATUS_SUCCESS, and IRP_MN_REGINFO_EX for the device") {
        EXPECT_STATUS(IoWMIRegistrationControl(device, WMIREG_ACTION_REGISTER), STATUS_SUCCESS);
        EXPECT_STATUS(KeWaitForSingleObject(&asked, Executive, KernelMode, FALSE, &patience), STATUS_SUCCESS);
        EXPECT_EQ(request.minor, IRP_MN_REGINFO_EX);
        EXPECT_EQ(request.provider, device);
        EXPECT_EQ(request.path, WMIREGISTER);
        EXPECT_EQ(request.irql, PASSIVE_LEVEL);
    }
    RULE("IRP_MN_REGINFO_EX", "STATUS_BUFFER_TOO_SMALL with the size that is needed: asked again with so much") {
        EXPECT_EQ(request.requests, 2);
        EXPECT_EQ(request.size, TRUE);
    }
    RULE("IoWMIRegistrationControl function", "WMIREG_ACTION_UPDATE_GUIDS: asked again, for an update") {
        KeClearEvent(&asked);
        EXPECT_STATUS(IoWMIRegistrationControl(device, WMIREG_ACTION_UPDATE_GUIDS), STATUS_SUCCESS);
        EXPECT_STATUS(KeWaitForSingleObject(&asked, Executive, KernelMode, FALSE, &patience), STATUS_SUCCESS);
        EXPECT_EQ(request.path, WMIUPDATE);
    }
    RULE("IoWMIRegistrationControl function", "STATUS_INVALID_PARAMETER for an action that is none") {
        EXPECT_STATUS(IoWMIRegistrationControl(device, 99), STATUS_INVALID_PARAMETER);
    }
    RULE("IoWMIRegistrationControl function", "WMIREG_ACTION_DEREGISTER: STATUS_SUCCESS, once") {
        EXPECT_STATUS(IoWMIRegistrationControl(device, WMIREG_ACTION_DEREGISTER), STATUS_SUCCESS);
        EXPECT_STATUS(IoWMIRegistrationControl(device, WMIREG_ACTION_DEREGISTER), STATUS_INVALID_PARAMETER);
    }
    IoDeleteDevice(device);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)path;
    sessions();
    providers();
    activities();
    wmi(driver);
}

SUITE("Tracing")
