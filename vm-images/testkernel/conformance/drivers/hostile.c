// build: -Wno-multichar -Wno-array-bounds -Wno-stringop-overflow -Wno-infinite-recursion
/*
 * A driver that does the worst, one deed at a time: whatever it does, the run has to end in bounded time with a verdict that
 * blames the right one. The deed is the REG_SZ value Deed under the service's Parameters key; the ones named after a routine
 * happen there, all others in DriverEntry.
 */
#include <ntddk.h>

#define POOL_TAG 'tsoH'
/* The header hides it from 64-bit drivers; the kernel has it all the same. */
NTHALAPI ULONG NTAPI HalGetInterruptVector(INTERFACE_TYPE, ULONG, ULONG, ULONG, PKIRQL, PKAFFINITY);
NTSYSAPI NTSTATUS NTAPI ZwWaitForSingleObject(HANDLE handle, BOOLEAN alertable, PLARGE_INTEGER timeout);

/* The test machine's card, where no other is asked for. */
#define CARD_LINE 5

static WCHAR deed_text[64];
static PKINTERRUPT interrupt;

static int is(const WCHAR *deed)
{
    const WCHAR *text = deed_text;
    while (*deed && *deed == *text)
        deed++, text++;
    return *deed == *text;
}

static NTSTATUS read_deed(PUNICODE_STRING path)
{
    static WCHAR key[256];
    UNICODE_STRING name = { 0, sizeof(key) - sizeof(WCHAR), key };
    UNICODE_STRING value = { 0, sizeof(deed_text) - sizeof(WCHAR), deed_text };
    RTL_QUERY_REGISTRY_TABLE table[2];
    RtlZeroMemory(table, sizeof(table));
    RtlAppendUnicodeStringToString(&name, path);
    RtlAppendUnicodeToString(&name, L"\\Parameters");
    table[0].Flags = RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED;
    table[0].Name = L"Deed";
    table[0].EntryContext = &value;
    return RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL);
}

static void spin(void)
{
    for (;;)
        __asm__ volatile("pause");
}

/* A frame of less than a page, so that none steps over the guard page. */
static __attribute__((noinline, noclone)) ULONG_PTR overflow(volatile ULONG_PTR *above)
{
    volatile ULONG_PTR frame[128];
    frame[0] = *above + 1;
    return overflow(frame) + frame[0];
}

static void triple_fault(void)
{
    struct __attribute__((packed)) {
        USHORT limit;
        ULONG_PTR base;
    } nothing = { 0, 0 };
    __asm__ volatile("lidt %0; int3" : : "m"(nothing));
}

static void call(const void *address)
{
    ((void (*)(void))address)();
}

static BOOLEAN NTAPI isr_that_never_returns(PKINTERRUPT object, PVOID context)
{
    spin();
    return TRUE;
}

static BOOLEAN NTAPI isr_that_scribbles_on_its_stack(PKINTERRUPT object, PVOID context)
{
    ULONG_PTR here;
    RtlFillMemory(&here, 256, 0x41);
    return TRUE;
}

static BOOLEAN NTAPI isr_that_stays_raised(PKINTERRUPT object, PVOID context)
{
    KIRQL before;
    KeRaiseIrql(HIGH_LEVEL, &before);
    return TRUE;
}

static VOID NTAPI ends_in_a_critical_region(PVOID context)
{
    KeEnterCriticalRegion();
}

static KMUTEX mutex;

static VOID NTAPI ends_with_a_mutex(PVOID context)
{
    KeInitializeMutex(&mutex, 0);
    KeWaitForSingleObject(&mutex, Executive, KernelMode, FALSE, NULL);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static VOID NTAPI dpc_that_stays_in_a_critical_region(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    KeEnterCriticalRegion();
}

static NTSTATUS start(PKSTART_ROUTINE routine)
{
    HANDLE thread;
    NTSTATUS status = PsCreateSystemThread(&thread, THREAD_ALL_ACCESS, NULL, NULL, NULL, routine, NULL);
    if (NT_SUCCESS(status)) {
        ZwWaitForSingleObject(thread, FALSE, NULL);
        ZwClose(thread);
    }
    return status;
}

static NTSTATUS connect(PKSERVICE_ROUTINE isr)
{
    KIRQL irql;
    KAFFINITY affinity;
    ULONG vector = HalGetInterruptVector(Isa, 0, CARD_LINE, CARD_LINE, &irql, &affinity);
    NTSTATUS status = IoConnectInterrupt(&interrupt, isr, NULL, NULL, vector, irql, irql, Latched, FALSE, affinity, FALSE);
    if (NT_SUCCESS(status))
        /* The card's CONTROL register: interrupts on. */
        WRITE_PORT_ULONG((PULONG)(ULONG_PTR)0x304, 1);
    return status;
}

static ULONG_PTR NTAPI stop_here(ULONG_PTR context)
{
    KeBugCheckEx(MANUALLY_INITIATED_CRASH, KeGetCurrentProcessorNumber(), context, 3, 4);
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
    if (is(L"unload-never-returns"))
        spin();
    if (is(L"unload-flood"))
        for (;;)
            DbgPrint("hostile: %s\n", "all work and no play makes a dull driver, and a very long log of the run");
    if (is(L"unload-returns-raised")) {
        KIRQL before;
        KeRaiseIrql(DISPATCH_LEVEL, &before);
    }
    if (interrupt)
        IoDisconnectInterrupt(interrupt);
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    NTSTATUS status = read_deed(path);
    if (!NT_SUCCESS(status))
        return status;
    driver->DriverUnload = unload;
    if (is(L"jump-to-null"))
        call(NULL);
    else if (is(L"jump-to-user-address"))
        call((void *)0x7ff612345678);
    else if (is(L"jump-to-kernel-address"))
        call((void *)0xfffff90012345678);
    else if (is(L"jump-to-no-address"))
        call((void *)0x4141414141414141);
    else if (is(L"jump-into-the-kernel"))
        call((const UCHAR *)(ULONG_PTR)KeSetEvent + 3);
    else if (is(L"execute-pool")) {
        UCHAR *code = ExAllocatePoolWithTag(NonPagedPoolNx, 16, POOL_TAG);
        if (!code)
            return STATUS_INSUFFICIENT_RESOURCES;
        *code = 0xc3;
        call(code);
        ExFreePoolWithTag(code, POOL_TAG);
    } else if (is(L"execute-stack")) {
        volatile UCHAR code[16];
        code[0] = 0xc3;
        call((const void *)code);
    } else if (is(L"overflow-stack")) {
        volatile ULONG_PTR bottom[1] = { 0 };
        return (NTSTATUS)overflow(bottom);
    } else if (is(L"triple-fault"))
        triple_fault();
    else if (is(L"write-kernel-code"))
        RtlFillMemory((void *)(ULONG_PTR)KeSetEvent, 64, 0xcc);
    else if (is(L"write-own-code"))
        *(volatile UCHAR *)(ULONG_PTR)DriverEntry = 0xcc;
    else if (is(L"write-kernel-data"))
        RtlFillMemory((void *)((ULONG_PTR)&KeNumberProcessors & ~0xfffULL), 0x1000, 0x41);
    else if (is(L"write-kernel-heap"))
        RtlFillMemory((UCHAR *)KeGetCurrentThread() - 0x800, 0x1000, 0x41);
    else if (is(L"write-own-driver-object"))
        RtlFillMemory(driver, sizeof(*driver), 0x41);
    else if (is(L"privileged-instruction"))
        __asm__ volatile("mov %0, %%cr3" : : "r"(0x41414000ULL) : "memory");
    else if (is(L"interrupts-off-for-ever")) {
        __asm__ volatile("cli");
        spin();
    } else if (is(L"divide-by-zero")) {
        /* In assembly: a compiler may leave out a division that the language does not define. */
        ULONG dividend = 1;
        __asm__ volatile("xor %%edx, %%edx; div %1" : "+a"(dividend) : "r"(0) : "edx", "cc");
        return (NTSTATUS)dividend;
    } else if (is(L"flood"))
        for (int line = 0; line < 4000; line++)
            DbgPrint("hostile: line %d of four thousand: %s\n", line, "all work and no play makes a dull driver");
    else if (is(L"driver-entry-never-returns"))
        spin();
    else if (is(L"driver-entry-never-returns-at-dispatch")) {
        KIRQL before;
        KeRaiseIrql(DISPATCH_LEVEL, &before);
        spin();
    } else if (is(L"bugcheck-at-high-level")) {
        KIRQL before;
        KeRaiseIrql(HIGH_LEVEL, &before);
        stop_here(2);
    } else if (is(L"fault-at-high-level")) {
        KIRQL before;
        KeRaiseIrql(HIGH_LEVEL, &before);
        *(volatile ULONG *)(ULONG_PTR)8 = 1;
    } else if (is(L"bugcheck-on-last-processor")) {
        KeSetSystemAffinityThread((KAFFINITY)1 << (KeNumberProcessors - 1));
        stop_here(2);
    } else if (is(L"bugcheck-on-every-processor")) {
        KeIpiGenericCall(stop_here, 2);
    } else if (is(L"driver-entry-returns-raised")) {
        KIRQL before;
        KeRaiseIrql(DISPATCH_LEVEL, &before);
    } else if (is(L"isr-never-returns"))
        return connect(isr_that_never_returns);
    else if (is(L"isr-scribbles"))
        return connect(isr_that_scribbles_on_its_stack);
    else if (is(L"isr-returns-raised"))
        return connect(isr_that_stays_raised);
    else if (is(L"driver-entry-returns-in-a-critical-region"))
        KeEnterCriticalRegion();
    else if (is(L"thread-ends-in-a-critical-region"))
        return start(ends_in_a_critical_region);
    else if (is(L"thread-ends-with-a-mutex"))
        return start(ends_with_a_mutex);
    else if (is(L"dpc-returns-in-a-critical-region")) {
        static KDPC dpc;
        KeInitializeDpc(&dpc, dpc_that_stays_in_a_critical_region, NULL);
        KeInsertQueueDpc(&dpc, NULL, NULL);
        KeFlushQueuedDpcs();
    }
    else if (!is(L"unload-never-returns") && !is(L"unload-flood") && !is(L"unload-returns-raised"))
        return STATUS_INVALID_PARAMETER;
    return STATUS_SUCCESS;
}
