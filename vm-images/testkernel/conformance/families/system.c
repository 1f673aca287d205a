/* The system around a driver: object references, threads and processes, event tracing, its image, buses and clocks. */
#include <check.h>

static LONG cleanups, closes;
static KIRQL close_irql;

static NTSTATUS NTAPI dispatch(PDEVICE_OBJECT device, PIRP irp)
{
    (void)device;
    switch (IoGetCurrentIrpStackLocation(irp)->MajorFunction) {
    case IRP_MJ_CLEANUP:
        InterlockedIncrement(&cleanups);
        break;
    case IRP_MJ_CLOSE:
        close_irql = KeGetCurrentIrql();
        InterlockedIncrement(&closes);
        break;
    }
    irp->IoStatus.Status = STATUS_SUCCESS;
    irp->IoStatus.Information = 0;
    IoCompleteRequest(irp, IO_NO_INCREMENT);
    return STATUS_SUCCESS;
}

static PFILE_OBJECT open_file(PUNICODE_STRING name)
{
    PDEVICE_OBJECT device;
    PFILE_OBJECT file = NULL;
    cleanups = closes = 0;
    close_irql = HIGH_LEVEL;
    IoGetDeviceObjectPointer(name, FILE_READ_DATA, &file, &device);
    return file;
}

/* The close request comes when nobody needs the file object any more. */
static int closed_within(LONGLONG milliseconds)
{
    while (!closes && milliseconds--)
        sleep_us(1000);
    return closes == 1;
}

static void references(PDRIVER_OBJECT driver)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\ConformanceSystem");
    PDEVICE_OBJECT device = NULL;
    PFILE_OBJECT file;

    driver->MajorFunction[IRP_MJ_CREATE] = dispatch;
    driver->MajorFunction[IRP_MJ_CLEANUP] = dispatch;
    driver->MajorFunction[IRP_MJ_CLOSE] = dispatch;
    IoCreateDevice(driver, 0, &name, FILE_DEVICE_UNKNOWN, 0, FALSE, &device);
    device->Flags &= ~DO_DEVICE_INITIALIZING;

    RULE("ObDereferenceObject macro", "the last reference to a file object closes it") {
        file = open_file(&name);
        EXPECT(file != NULL && closes == 0);
        ObDereferenceObject(file);
        EXPECT(closed_within(1000));
    }
    RULE("ObReferenceObject macro", "keeps the object until it is undone") {
        file = open_file(&name);
        ObReferenceObject(file);
        ObDereferenceObject(file);
        EXPECT_EQ(closes, 0);
        ObDereferenceObject(file);
        EXPECT(closed_within(1000));
    }
    RULE("ObReferenceObjectWithTag macro", "counts like ObReferenceObject") {
        file = open_file(&name);
        ObReferenceObjectWithTag(file, 'fnoC');
        ObDereferenceObject(file);
        EXPECT_EQ(closes, 0);
        ObDereferenceObjectWithTag(file, 'fnoC');
        EXPECT(closed_within(1000));
    }
    RULE("ObReferenceObjectByPointer function", "one more reference; KernelMode needs no ObjectType") {
        file = open_file(&name);
        EXPECT_STATUS(ObReferenceObjectByPointer(file, FILE_READ_DATA, NULL, KernelMode), STATUS_SUCCESS);
        ObDereferenceObject(file);
        EXPECT_EQ(closes, 0);
        ObDereferenceObject(file);
        EXPECT(closed_within(1000));
    }
    RULE("ObReferenceObjectByPointerWithTag function", "the same with a tag") {
        file = open_file(&name);
        EXPECT_STATUS(ObReferenceObjectByPointerWithTag(file, FILE_READ_DATA, NULL, KernelMode, 'fnoC'),
                      STATUS_SUCCESS);
        ObDereferenceObjectWithTag(file, 'fnoC');
        EXPECT_EQ(closes, 0);
        ObDereferenceObject(file);
        EXPECT(closed_within(1000));
    }
    RULE("ObDereferenceObjectDeferDelete function", "the deletion is left to a system worker thread") {
        file = open_file(&name);
        ObDereferenceObjectDeferDelete(file);
        EXPECT(closed_within(1000));
    }
    RULE("ObDereferenceObjectDeferDeleteWithTag function", "does not delete while there are references") {
        file = open_file(&name);
        ObReferenceObjectWithTag(file, 'fnoC');
        ObDereferenceObjectDeferDeleteWithTag(file, 'fnoC');
        sleep_us(20000);
        EXPECT_EQ(closes, 0);
        ObDereferenceObject(file);
        EXPECT(closed_within(1000));
    }
    RULE("ObDereferenceObject macro", "may be called at DISPATCH_LEVEL: the object is deleted later, at PASSIVE_LEVEL") {
        KIRQL irql;
        file = open_file(&name);
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        ObDereferenceObject(file);
        KeLowerIrql(irql);
        /* A worker on another processor may have closed it by now; but never here, above PASSIVE_LEVEL. */
        EXPECT(closed_within(1000));
        EXPECT_EQ(close_irql, PASSIVE_LEVEL);
    }
    IoDeleteDevice(device);
}

static struct {
    PKTHREAD thread;
    HANDLE id, process;
    LONG after;
} inner;

static VOID NTAPI tell(PVOID context)
{
    inner.thread = KeGetCurrentThread();
    inner.id = PsGetCurrentThreadId();
    inner.process = PsGetCurrentProcessId();
    if (context)
        PsTerminateSystemThread(STATUS_SUCCESS);
    inner.after = 1;
}

static void threads(void)
{
    PVOID thread = NULL, again = NULL;
    CLIENT_ID client = { NULL, NULL };
    HANDLE handle = NULL;

    RULE("PsCreateSystemThread function", "ClientId names process and thread as the thread itself sees them") {
        EXPECT_STATUS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, &client, tell, &inner), STATUS_SUCCESS);
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, &thread, NULL),
                      STATUS_SUCCESS);
        KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
        EXPECT(client.UniqueThread == inner.id);
        EXPECT(client.UniqueProcess == inner.process);
    }
    RULE("PsTerminateSystemThread function", "does not return; the thread object is signaled") {
        EXPECT_EQ(inner.after, 0);
        EXPECT(inner.thread == thread);
    }
    RULE("ObReferenceObjectByHandleWithTag function", "the object behind the handle, also where the thread has ended") {
        EXPECT_STATUS(ObReferenceObjectByHandleWithTag(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, 'fnoC', &again,
                                                       NULL),
                      STATUS_SUCCESS);
        EXPECT(again == thread);
        ObDereferenceObjectWithTag(again, 'fnoC');
    }
    RULE("PsGetThreadId function", "the thread's identifier") {
        EXPECT(PsGetThreadId(thread) == client.UniqueThread);
        EXPECT(PsGetThreadId(PsGetCurrentThread()) == PsGetCurrentThreadId());
        EXPECT(PsGetCurrentThreadId() != client.UniqueThread);
    }
    RULE("PsGetThreadProcessId function", "the system process's for a system thread") {
        EXPECT(PsGetThreadProcessId(thread) == PsGetCurrentProcessId());
    }
    RULE("ObReferenceObjectByHandle function", "STATUS_INVALID_HANDLE for a handle that was closed") {
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, &again, NULL),
                      STATUS_INVALID_HANDLE);
    }
    ObDereferenceObject(thread);
    RULE("PsGetProcessId function", "the current process's is PsGetCurrentProcessId's") {
        EXPECT(PsGetProcessId(PsGetCurrentProcess()) == PsGetCurrentProcessId());
    }
    RULE("PsIsSystemThread function", "TRUE in a system thread") {
        EXPECT(PsIsSystemThread(PsGetCurrentThread()));
    }
    RULE("PsGetProcessCreateTimeQuadPart function", "in 100 ns since 1601, before now") {
        LARGE_INTEGER now;
        KeQuerySystemTime(&now);
        EXPECT(PsGetProcessCreateTimeQuadPart(PsGetCurrentProcess()) > 0);
        EXPECT(PsGetProcessCreateTimeQuadPart(PsGetCurrentProcess()) <= now.QuadPart);
    }
}

static void tracing(void)
{
    static const GUID provider = { 0x5e1a7c1b, 0x51a1, 0x4c0d, { 1, 2, 3, 4, 5, 6, 7, 8 } };
    EVENT_DESCRIPTOR event = { 1, 0, 0, 4, 0, 0, 1 };
    REGHANDLE handle = 0, second = 0;

    RULE("EtwRegister function", "STATUS_SUCCESS and a handle; each registration has its own") {
        EXPECT_STATUS(EtwRegister(&provider, NULL, NULL, &handle), STATUS_SUCCESS);
        EXPECT_STATUS(EtwRegister(&provider, NULL, NULL, &second), STATUS_SUCCESS);
        EXPECT(handle != 0 && second != 0 && handle != second);
        EXPECT_STATUS(EtwUnregister(second), STATUS_SUCCESS);
    }
    RULE("EtwProviderEnabled function", "FALSE where no session has enabled the provider") {
        EXPECT(!EtwProviderEnabled(handle, 4, 1));
    }
    RULE("EtwEventEnabled function", "FALSE where no session has enabled the provider") {
        EXPECT(!EtwEventEnabled(handle, &event));
    }
    RULE("EtwWrite function", "STATUS_SUCCESS where no session takes the event, at DISPATCH_LEVEL too") {
        KIRQL irql;
        EXPECT_STATUS(EtwWrite(handle, &event, NULL, 0, NULL), STATUS_SUCCESS);
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        EXPECT_STATUS(EtwWrite(handle, &event, NULL, 0, NULL), STATUS_SUCCESS);
        KeLowerIrql(irql);
    }
    RULE("EtwUnregister function", "STATUS_SUCCESS for a registered provider") {
        EXPECT_STATUS(EtwUnregister(handle), STATUS_SUCCESS);
    }
}

static int zeroed[300];
static void (*const table[])(void) = { threads, tracing };

static void image(PDRIVER_OBJECT driver)
{
    PUCHAR start = driver->DriverStart;

    RULE("MmGetSystemRoutineAddress function", "the address of a routine that the kernel exports: it can be called") {
        UNICODE_STRING name = RTL_CONSTANT_STRING(L"RtlUpperChar");
        CHAR(NTAPI * upper)(CHAR) = MmGetSystemRoutineAddress(&name);
        EXPECT(upper != NULL);
        if (upper)
            EXPECT_EQ(upper('q'), 'Q');
    }
    RULE("MmGetSystemRoutineAddress function", "NULL where the name cannot be resolved") {
        UNICODE_STRING name = RTL_CONSTANT_STRING(L"RtlNoSuchRoutine");
        EXPECT(MmGetSystemRoutineAddress(&name) == NULL);
    }
    RULE("DRIVER_OBJECT structure", "DriverStart is the loaded image, with its headers") {
        EXPECT(start[0] == 'M' && start[1] == 'Z');
        EXPECT((PUCHAR)zeroed > start && (PUCHAR)(zeroed + 300) <= start + driver->DriverSize);
    }
    RULE("PE Format", "data without contents is zero; pointers to the image's own routines are relocated") {
        EXPECT(bytes_are(zeroed, 0, sizeof(zeroed)));
        EXPECT((PUCHAR)table[0] > start && (PUCHAR)table[0] < start + driver->DriverSize);
        EXPECT(table[1] == tracing);
    }
}

static void buses(void)
{
    PCI_COMMON_CONFIG whole;
    PCI_SLOT_NUMBER nobody = { .u.bits = { 31, 7, 0 } };
    USHORT pair[2] = { 0, 0 };

    RtlZeroMemory(&whole, sizeof(whole));
    RULE("HalGetBusDataByOffset function", "PCIConfiguration: the configuration space of the function in that slot") {
        EXPECT_EQ(HalGetBusDataByOffset(PCIConfiguration, 0, 0, &whole, 0, PCI_COMMON_HDR_LENGTH),
                  PCI_COMMON_HDR_LENGTH);
        EXPECT(whole.VendorID != PCI_INVALID_VENDORID);
        EXPECT_EQ(whole.BaseClass, PCI_CLASS_BRIDGE_DEV);
    }
    RULE("HalGetBusDataByOffset function", "from an offset on, and never beyond the length asked for") {
        EXPECT_EQ(HalGetBusDataByOffset(PCIConfiguration, 0, 0, pair, FIELD_OFFSET(PCI_COMMON_CONFIG, DeviceID), 2), 2);
        EXPECT_EQ(pair[0], whole.DeviceID);
        EXPECT_EQ(pair[1], 0);
    }
    RULE("HalGetBusDataByOffset function", "2, and PCI_INVALID_VENDORID, where the slot has no device") {
        EXPECT_EQ(HalGetBusDataByOffset(PCIConfiguration, 0, nobody.u.AsULONG, &whole, 0, PCI_COMMON_HDR_LENGTH), 2);
        EXPECT_EQ(whole.VendorID, PCI_INVALID_VENDORID);
    }
    RULE("HalGetBusDataByOffset function", "0 where the bus does not exist") {
        EXPECT_EQ(HalGetBusDataByOffset(PCIConfiguration, 200, 0, &whole, 0, PCI_COMMON_HDR_LENGTH), 0);
    }
    RULE("HalTranslateBusAddress function", "a port of the ISA bus stays what and where it is on a PC") {
        PHYSICAL_ADDRESS port, translated;
        ULONG space = 1;
        port.QuadPart = 0x3F8;
        translated.QuadPart = 0;
        EXPECT(HalTranslateBusAddress(Isa, 0, port, &space, &translated));
        EXPECT_EQ(translated.QuadPart, 0x3F8);
        EXPECT_EQ(space, 1);
    }
    RULE("KeStallExecutionProcessor function", "waits at least as long as it is asked to, without giving way") {
        ULONGLONG before = __builtin_ia32_rdtsc();
        LARGE_INTEGER frequency, from = KeQueryPerformanceCounter(&frequency), to;
        KeStallExecutionProcessor(50);
        to = KeQueryPerformanceCounter(NULL);
        EXPECT(__builtin_ia32_rdtsc() > before);
        EXPECT((to.QuadPart - from.QuadPart) * 1000000 >= 49 * frequency.QuadPart);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)path;
    references(driver);
    threads();
    tracing();
    image(driver);
    buses();
}

SUITE("System")
