/* Structured exception handling: what is raised, who is asked, and what is left on the way. */
#include <check.h>
#include <try.h>

GUARD(guarded, ".rva try_take")
GUARD(guarded_by_all, ".long 1")
GUARD(passing, ".rva try_pass")

static void NTAPI raise_given(PVOID status)
{
    ExRaiseStatus((NTSTATUS)(ULONG_PTR)status);
}

static void raise_violation(PVOID context)
{
    (void)context;
    ExRaiseAccessViolation();
}

static void raise_misalignment(PVOID context)
{
    (void)context;
    ExRaiseDatatypeMisalignment();
}

static void read_user(PVOID address)
{
    (void)*(volatile ULONG *)address;
}

static void write_user(PVOID address)
{
    *(volatile ULONG *)address = 1;
}

static void divide(PVOID by)
{
    volatile ULONG zero = (ULONG)(ULONG_PTR)by;
    volatile ULONG result = 10 / zero;
    (void)result;
}

static void illegal(PVOID context)
{
    (void)context;
    __asm__ volatile("ud2");
}

static void breakpoint(PVOID context)
{
    (void)context;
    DbgBreakPoint();
}

static void noncanonical(PVOID context)
{
    (void)context;
    (void)*(volatile UCHAR *)0x0123456789ABCDEFull;
}

static void nothing(PVOID context)
{
    (*(int *)context)++;
}

static void raising(void)
{
    int calls = 0;

    RULE("Handling Exceptions", "what raises nothing is called once, and no filter is asked") {
        try_filtered = 0;
        EXPECT_EQ(guarded(nothing, &calls), 0);
        EXPECT_EQ(calls, 1);
        EXPECT_EQ(try_filtered, 0);
    }
    RULE("ExRaiseStatus function", "raises an exception of that status, which the caller's handler takes") {
        EXPECT_STATUS(guarded((void *)raise_given, (PVOID)0xC0000123), 0xC0000123);
        EXPECT_STATUS(try_record.ExceptionCode, 0xC0000123);
        EXPECT_EQ(try_record.NumberParameters, 0);
        EXPECT_EQ(try_record.ExceptionRecord, NULL);
    }
    RULE("ExRaiseStatus function", "nobody may go on where it was raised") {
        EXPECT(try_record.ExceptionFlags & EXCEPTION_NONCONTINUABLE);
    }
    RULE("ExRaiseAccessViolation function", "raises STATUS_ACCESS_VIOLATION") {
        EXPECT_STATUS(guarded(raise_violation, NULL), STATUS_ACCESS_VIOLATION);
    }
    RULE("ExRaiseDatatypeMisalignment function", "raises STATUS_DATATYPE_MISALIGNMENT") {
        EXPECT_STATUS(guarded(raise_misalignment, NULL), STATUS_DATATYPE_MISALIGNMENT);
    }
    RULE("try-except statement", "EXCEPTION_EXECUTE_HANDLER in place of a filter takes every exception") {
        EXPECT_STATUS(guarded_by_all((void *)raise_given, (PVOID)0xC0000099), 0xC0000099);
    }
}

static void faults(void)
{
    RULE("Handling Exceptions", "a user-mode address that is not there: STATUS_ACCESS_VIOLATION, reading") {
        EXPECT_STATUS(guarded(read_user, (PVOID)0x10), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(try_record.NumberParameters, 2);
        EXPECT_EQ(try_record.ExceptionInformation[0], 0);
        EXPECT_EQ(try_record.ExceptionInformation[1], 0x10);
        EXPECT_EQ(try_record.ExceptionAddress, try_context.Rip);
    }
    RULE("Handling Exceptions", "the same, writing") {
        EXPECT_STATUS(guarded(write_user, (PVOID)0x7FF000), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(try_record.ExceptionInformation[0], 1);
        EXPECT_EQ(try_record.ExceptionInformation[1], 0x7FF000);
    }
    RULE("Handling Exceptions", "division by zero: STATUS_INTEGER_DIVIDE_BY_ZERO") {
        EXPECT_STATUS(guarded(divide, NULL), STATUS_INTEGER_DIVIDE_BY_ZERO);
    }
    RULE("Handling Exceptions", "an illegal instruction: STATUS_ILLEGAL_INSTRUCTION") {
        EXPECT_STATUS(guarded(illegal, NULL), STATUS_ILLEGAL_INSTRUCTION);
    }
    RULE("DbgBreakPoint function", "without a debugger a breakpoint is an exception, STATUS_BREAKPOINT") {
        EXPECT_STATUS(guarded(breakpoint, NULL), STATUS_BREAKPOINT);
    }
    RULE("Handling Exceptions", "an address of no form at all: STATUS_ACCESS_VIOLATION at -1") {
        EXPECT_STATUS(guarded(noncanonical, NULL), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(try_record.ExceptionInformation[1], (ULONG_PTR)-1);
    }
    RULE("Handling Exceptions", "the IRQL stays, and exceptions are handled at DISPATCH_LEVEL too") {
        KIRQL old = KeRaiseIrqlToDpcLevel();
        ULONG caught = guarded((void *)raise_given, (PVOID)0xC0000001);
        KIRQL level = KeGetCurrentIrql();
        KeLowerIrql(old);
        EXPECT_STATUS(caught, 0xC0000001);
        EXPECT_EQ(level, DISPATCH_LEVEL);
        EXPECT_PASSIVE();
    }
    RULE("Handling Exceptions", "interrupts are on where they were on") {
        ULONG_PTR flags;
        guarded(read_user, (PVOID)0x10);
        __asm__ volatile("pushfq; pop %0" : "=r"(flags));
        EXPECT(flags & 0x200);
    }
}

typedef struct _PROBE {
    PVOID address;
    SIZE_T length;
    ULONG alignment;
} PROBE;

static void probe_read(PVOID context)
{
    PROBE *probe = context;
    ProbeForRead(probe->address, probe->length, probe->alignment);
}

static void probe_write(PVOID context)
{
    PROBE *probe = context;
    ProbeForWrite(probe->address, probe->length, probe->alignment);
}

static void copy_from_user(PVOID to)
{
    RtlMoveMemory(to, (PVOID)0x4000, 64);
}

static void fill_user(PVOID context)
{
    RtlZeroMemory(context, (SIZE_T)64);
}

static ULONG probed(void (*how)(PVOID), ULONG_PTR address, SIZE_T length, ULONG alignment)
{
    PROBE probe = { (PVOID)address, length, alignment };
    return guarded(how, &probe);
}

static void probing(void)
{
    UCHAR buffer[64];

    RULE("ProbeForRead function", "an address of the system's: STATUS_ACCESS_VIOLATION") {
        EXPECT_STATUS(probed(probe_read, (ULONG_PTR)buffer, 4, 1), STATUS_ACCESS_VIOLATION);
    }
    RULE("ProbeForRead function", "a buffer that runs out of user mode's addresses, or round the end of all: the same") {
        EXPECT_STATUS(probed(probe_read, 0x1000, 0x7FFFFFFFFFFFFFFF, 1), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(probed(probe_read, 0x1000, (SIZE_T)-1, 1), STATUS_ACCESS_VIOLATION);
    }
    RULE("ProbeForRead function", "no bytes: nothing is looked at") {
        EXPECT_STATUS(probed(probe_read, (ULONG_PTR)buffer, 0, 1), 0);
    }
    RULE("ProbeForRead function", "an address that is not aligned: STATUS_DATATYPE_MISALIGNMENT") {
        EXPECT_STATUS(probed(probe_read, 0x1002, 4, 4), STATUS_DATATYPE_MISALIGNMENT);
    }
    RULE("ProbeForRead function", "the range alone is checked: a buffer of user mode's that is not there passes") {
        EXPECT_STATUS(probed(probe_read, 0x1000, 0x1000, 4), 0);
    }
    RULE("ProbeForWrite function", "a buffer that cannot be written: STATUS_ACCESS_VIOLATION") {
        EXPECT_STATUS(probed(probe_write, 0x1000, 4, 4), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(probed(probe_write, (ULONG_PTR)buffer, 4, 1), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(probed(probe_write, 0x1001, 4, 4), STATUS_DATATYPE_MISALIGNMENT);
    }
    RULE("Handling Exceptions", "a fault in RtlCopyMemory is its caller's") {
        EXPECT_STATUS(guarded(copy_from_user, buffer), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(try_record.ExceptionInformation[1] & ~63ull, 0x4000);
        EXPECT_STATUS(guarded(fill_user, (PVOID)0x5000), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(try_record.ExceptionInformation[0], 1);
    }
}

static void lock_user(PVOID mdl)
{
    MmProbeAndLockPages(mdl, UserMode, IoReadAccess);
}

static void lock_kernel(PVOID mdl)
{
    MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
}

static void map_user(PVOID mdl)
{
    /* The system's own addresses are not for user mode. */
    MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, mdl, FALSE, NormalPagePriority);
}

static void release_semaphore(PVOID semaphore)
{
    KeReleaseSemaphore(semaphore, 0, 1, FALSE);
}

static void release_mutex(PVOID mutex)
{
    KeReleaseMutex(mutex, FALSE);
}

static void too_much_pool(PVOID context)
{
    (void)context;
    ExAllocatePoolWithTag(NonPagedPool | POOL_RAISE_IF_ALLOCATION_FAILURE, 0x7000000000ull, 'eliV');
}

static void too_much_quota(PVOID context)
{
    (void)context;
    ExAllocatePoolWithQuotaTag(NonPagedPool, 0x7000000000ull, 'eliV');
}

static void routines(void)
{
    RULE("MmProbeAndLockPages function", "a user-mode buffer that is not there raises STATUS_ACCESS_VIOLATION") {
        PMDL mdl = IoAllocateMdl((PVOID)0x10000, 0x1000, FALSE, FALSE, NULL);
        EXPECT_STATUS(guarded(lock_user, mdl), STATUS_ACCESS_VIOLATION);
        EXPECT_EQ(mdl->MdlFlags & MDL_PAGES_LOCKED, 0);
        EXPECT_STATUS(guarded(lock_kernel, mdl), STATUS_ACCESS_VIOLATION);
        IoFreeMdl(mdl);
    }
    RULE("MmProbeAndLockPages function", "with UserMode a system address raises STATUS_ACCESS_VIOLATION") {
        PVOID block = ExAllocatePoolWithTag(NonPagedPool, 64, 'tseT');
        PMDL mdl = IoAllocateMdl(block, 64, FALSE, FALSE, NULL);
        EXPECT_STATUS(guarded(lock_user, mdl), STATUS_ACCESS_VIOLATION);
        EXPECT_STATUS(guarded(lock_kernel, mdl), 0);
        EXPECT(mdl->MdlFlags & MDL_PAGES_LOCKED);
        EXPECT(!(mdl->MdlFlags & MDL_WRITE_OPERATION));
        EXPECT(guarded(map_user, mdl) != 0);
        MmUnlockPages(mdl);
        IoFreeMdl(mdl);
        ExFreePoolWithTag(block, 'tseT');
    }
    RULE("KeReleaseSemaphore function", "above the limit: STATUS_SEMAPHORE_LIMIT_EXCEEDED is raised, the count stays") {
        KSEMAPHORE semaphore;
        KeInitializeSemaphore(&semaphore, 2, 2);
        EXPECT_STATUS(guarded(release_semaphore, &semaphore), 0xC0000047);
        EXPECT_EQ(KeReadStateSemaphore(&semaphore), 2);
        EXPECT_PASSIVE();
    }
    RULE("KeReleaseMutex function", "by one who does not own it: STATUS_MUTANT_NOT_OWNED is raised") {
        KMUTEX mutex;
        KeInitializeMutex(&mutex, 0);
        EXPECT_STATUS(guarded(release_mutex, &mutex), STATUS_MUTANT_NOT_OWNED);
        EXPECT_EQ(KeReadStateMutex(&mutex), 1);
        EXPECT_PASSIVE();
    }
    RULE("ExAllocatePoolWithTag function", "POOL_RAISE_IF_ALLOCATION_FAILURE: raises STATUS_INSUFFICIENT_RESOURCES") {
        EXPECT_STATUS(guarded(too_much_pool, NULL), STATUS_INSUFFICIENT_RESOURCES);
    }
    RULE("ExAllocatePoolWithQuotaTag function", "raises where it fails") {
        EXPECT_STATUS(guarded(too_much_quota, NULL), STATUS_INSUFFICIENT_RESOURCES);
    }
}

static ULONG_PTR after_repair;

/* Nesting. */
static ULONG cleaned, cleaned_abnormally, inner_caught;

static void __attribute__((used, noinline)) cleanup(BOOLEAN abnormal, PVOID frame)
{
    (void)frame;
    cleaned++;
    if (abnormal & 1)
        cleaned_abnormally++;
}

FINALLY(with_cleanup, cleanup)

static void cleaned_raise(PVOID status)
{
    with_cleanup((void *)raise_given, status);
}

static void cleaned_nothing(PVOID calls)
{
    with_cleanup(nothing, calls);
}

static void passed(PVOID status)
{
    passing((void *)raise_given, status);
}

static void caught_inside(PVOID status)
{
    inner_caught = guarded((void *)raise_given, status);
    ExRaiseStatus((NTSTATUS)0xC0000200);
}

static ULONG cleanups_that_raise;

static void __attribute__((used, noinline)) cleanup_raises(BOOLEAN abnormal, PVOID frame)
{
    (void)frame;
    if ((abnormal & 1) && cleanups_that_raise++ == 0)
        ExRaiseStatus((NTSTATUS)0xC0000300);
}

FINALLY(with_raising_cleanup, cleanup_raises)

static void collided(PVOID status)
{
    with_raising_cleanup((void *)raise_given, status);
}

static void nested_collided(PVOID status)
{
    with_cleanup(collided, status);
}

static void (*volatile raise_at_depth)(PVOID) = (void *)raise_given;

static void deep(PVOID left)
{
    volatile UCHAR room[200];
    room[(ULONG_PTR)left % 200] = (UCHAR)(ULONG_PTR)left;
    if (left)
        deep((PVOID)((ULONG_PTR)left - 1));
    else
        raise_at_depth((PVOID)0xC0000777);
    after_repair += room[0];
}

static void nesting(void)
{
    RULE("try-finally statement", "the block runs once where nothing is raised") {
        int calls = 0;
        cleaned = cleaned_abnormally = 0;
        EXPECT_EQ(guarded(cleaned_nothing, &calls), 0);
        EXPECT_EQ(cleaned, 1);
        EXPECT_EQ(cleaned_abnormally, 0);
    }
    RULE("try-finally statement", "and once, as an abnormal termination, where an exception passes") {
        cleaned = cleaned_abnormally = 0;
        EXPECT_STATUS(guarded(cleaned_raise, (PVOID)0xC0000111), 0xC0000111);
        EXPECT_EQ(cleaned, 1);
        EXPECT_EQ(cleaned_abnormally, 1);
    }
    RULE("try-except statement", "EXCEPTION_CONTINUE_SEARCH: the next outer handler is asked") {
        try_filtered = 0;
        EXPECT_STATUS(guarded(passed, (PVOID)0xC0000112), 0xC0000112);
        EXPECT_EQ(try_filtered, 2);
    }
    RULE("try-except statement", "an exception that was taken does not concern the outer handler, the next one does") {
        inner_caught = 0;
        EXPECT_STATUS(guarded(caught_inside, (PVOID)0xC0000113), 0xC0000200);
        EXPECT_STATUS(inner_caught, 0xC0000113);
    }
    RULE("try-finally statement", "an exception out of the block takes the place of the first, and nothing runs twice") {
        cleanups_that_raise = 0;
        cleaned = 0;
        EXPECT_STATUS(guarded(nested_collided, (PVOID)0xC0000114), 0xC0000300);
        EXPECT_EQ(cleanups_that_raise, 1);
        EXPECT_EQ(cleaned, 1);
    }
    RULE("Handling Exceptions", "frames without handlers are left, however many") {
        int i;
        for (i = 0; i < 50; i++)
            EXPECT_STATUS(guarded(deep, (PVOID)40), 0xC0000777);
    }
}

static LONG __attribute__((used, noinline)) repair(PEXCEPTION_POINTERS pointers, PVOID frame)
{
    (void)frame;
    /* ud2 is two bytes long. */
    pointers->ContextRecord->Rip += 2;
    pointers->ContextRecord->R8 = 0x77;
    return -1;
}

GUARD(repaired, ".rva repair")


static void skipped(PVOID context)
{
    (void)context;
    __asm__ volatile("xor %%r8d, %%r8d; ud2; mov %%r8, %0" : "=r"(after_repair) : : "r8");
}

static void __attribute__((noinline)) trace_here(PVOID *addresses, USHORT *count)
{
    *count = RtlCaptureStackBackTrace(0, 8, addresses, NULL);
}

static void walking(void)
{
    RULE("try-except statement", "EXCEPTION_CONTINUE_EXECUTION: goes on with the registers as the filter left them") {
        EXPECT_EQ(repaired(skipped, NULL), 0);
        EXPECT_EQ(after_repair, 0x77);
    }
    RULE("RtlCaptureContext function", "the caller's registers, and where it goes on") {
        CONTEXT context;
        ULONG_PTR sp;
        RtlCaptureContext(&context);
        __asm__ volatile("mov %%rsp, %0" : "=r"(sp));
        EXPECT_EQ(context.Rsp, sp);
        EXPECT(context.Rip > (ULONG_PTR)&walking && context.Rip < (ULONG_PTR)&walking + 0x2000);
        EXPECT_EQ(context.ContextFlags & 0x100003, 0x100003);
    }
    RULE("RtlLookupFunctionEntry function", "the entry of the function, and the base of its image") {
        DWORD64 base = 0;
        FUNCTION_ENTRY * entry = RtlLookupFunctionEntry((DWORD64)&trace_here + 4, &base, NULL);
        PVOID header = NULL;
        EXPECT(entry != NULL);
        if (!entry)
            continue;
        EXPECT_EQ(base + entry->BeginAddress, &trace_here);
        EXPECT_EQ(*(USHORT *)base, 0x5A4D);
        EXPECT_EQ(RtlPcToFileHeader((PVOID)&trace_here, &header), base);
        EXPECT_EQ(header, base);
    }
    RULE("RtlCaptureStackBackTrace function", "the caller first, then its caller") {
        PVOID addresses[8] = { 0 };
        USHORT count = 0;
        trace_here(addresses, &count);
        EXPECT(count >= 2);
        EXPECT((ULONG_PTR)addresses[0] > (ULONG_PTR)&trace_here && (ULONG_PTR)addresses[0] < (ULONG_PTR)&trace_here + 64);
        EXPECT((ULONG_PTR)addresses[1] > (ULONG_PTR)&walking && (ULONG_PTR)addresses[1] < (ULONG_PTR)&walking + 0x2000);
    }
    RULE("RtlVirtualUnwind function", "the caller's registers") {
        CONTEXT context;
        DWORD64 base = 0, establisher = 0;
        PVOID data = NULL, addresses[4] = { 0 };
        USHORT count = RtlCaptureStackBackTrace(1, 1, addresses, NULL);
        FUNCTION_ENTRY * entry;
        RtlCaptureContext(&context);
        entry = RtlLookupFunctionEntry(context.Rip, &base, NULL);
        EXPECT(entry != NULL && count == 1);
        if (!entry)
            continue;
        RtlVirtualUnwind(0, base, context.Rip, entry, &context, &data, &establisher, NULL);
        EXPECT_EQ(context.Rip, addresses[0]);
        EXPECT(context.Rsp > establisher);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    raising();
    faults();
    probing();
    routines();
    nesting();
    walking();
}

SUITE("Exceptions")
