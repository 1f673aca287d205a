/* Routines that are newer than the import library: found by their names, as drivers find them that run on older systems too. */

#include "check.h"

static PVOID found(PCWSTR name)
{
    UNICODE_STRING wanted;
    RtlInitUnicodeString(&wanted, name);
    return MmGetSystemRoutineAddress(&wanted);
}

static volatile LONG threads_seen;

static VOID NTAPI sees_threads(HANDLE process, HANDLE thread, BOOLEAN create)
{
    (void)process;
    (void)thread;
    (void)create;
    InterlockedIncrement(&threads_seen);
}

static VOID NTAPI ends(PVOID unused)
{
    (void)unused;
}

static VOID NTAPI never_run(PKDPC dpc, PVOID context, PVOID first, PVOID second)
{
    (void)dpc;
    (void)context;
    (void)first;
    (void)second;
}

static void check_memory(void)
{
    NTSTATUS(NTAPI *copy)(PVOID target, ULONGLONG source, SIZE_T bytes, ULONG flags, PSIZE_T copied) = found(L"MmCopyMemory");
    PUCHAR from = ExAllocatePoolWithTag(NonPagedPool, 2 * PAGE_SIZE, 'wenR');
    static UCHAR to[2 * PAGE_SIZE];
    SIZE_T copied;

    for (ULONG i = 0; i < 2 * PAGE_SIZE; i++)
        from[i] = (UCHAR)(i * 7);
    RULE("MmCopyMemory function", "MM_COPY_MEMORY_VIRTUAL: copies, across pages, and says how much") {
        EXPECT(copy != NULL);
        EXPECT_STATUS(copy(to, (ULONG_PTR)from + 100, PAGE_SIZE + 50, 2, &copied), STATUS_SUCCESS);
        EXPECT_EQ(copied, PAGE_SIZE + 50);
        EXPECT_EQ(RtlCompareMemory(to, from + 100, PAGE_SIZE + 50), PAGE_SIZE + 50);
    }
    RULE("MmCopyMemory function", "MM_COPY_MEMORY_PHYSICAL: from where memory lies") {
        RtlZeroMemory(to, sizeof(to));
        EXPECT_STATUS(copy(to, MmGetPhysicalAddress(from).QuadPart, 200, 1, &copied), STATUS_SUCCESS);
        EXPECT_EQ(RtlCompareMemory(to, from, 200), 200);
    }
    RULE("MmCopyMemory function", "fails where there is no memory, and does not fault") {
        EXPECT(!NT_SUCCESS(copy(to, 0xFFFFF90012345000, 16, 2, &copied)));
        EXPECT_EQ(copied, 0);
        EXPECT(!NT_SUCCESS(copy(to, (ULONGLONG)1 << 45, 16, 1, &copied)));
        EXPECT_EQ(copied, 0);
        EXPECT(!NT_SUCCESS(copy(to, (ULONG_PTR)from, 16, 0, &copied)));
    }
    ExFreePoolWithTag(from, 'wenR');
}

static void check_locks(void)
{
    ULONG(NTAPI *try_shared)(volatile LONG *lock) = found(L"ExTryAcquireSpinLockSharedAtDpcLevel");
    ULONG(NTAPI *try_exclusive)(volatile LONG *lock) = found(L"ExTryAcquireSpinLockExclusiveAtDpcLevel");
    VOID(NTAPI *release_shared)(volatile LONG *lock) = found(L"ExReleaseSpinLockSharedFromDpcLevel");
    VOID(NTAPI *release_exclusive)(volatile LONG *lock) = found(L"ExReleaseSpinLockExclusiveFromDpcLevel");
    static volatile LONG lock;
    KIRQL old;

    RULE("ExTryAcquireSpinLockSharedAtDpcLevel function", "several may share it, and nobody has it alone meanwhile") {
        EXPECT(try_shared && try_exclusive && release_shared && release_exclusive);
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        EXPECT(try_shared(&lock));
        EXPECT(try_shared(&lock));
        EXPECT(!try_exclusive(&lock));
        release_shared(&lock);
        release_shared(&lock);
        EXPECT(try_exclusive(&lock));
        EXPECT(!try_shared(&lock));
        EXPECT(!try_exclusive(&lock));
        release_exclusive(&lock);
        KeLowerIrql(old);
    }
}

static void check_threads(void)
{
    NTSTATUS(NTAPI *notify)(ULONG kind, PCREATE_THREAD_NOTIFY_ROUTINE routine) = found(L"PsSetCreateThreadNotifyRoutineEx");

    RULE("PsSetCreateThreadNotifyRoutineEx function", "PsCreateThreadNotifySubsystems: told of every thread, until it is removed") {
        EXPECT(notify != NULL);
        EXPECT_STATUS(notify(1, sees_threads), STATUS_SUCCESS);
        join_thread(start_thread(ends, NULL));
        EXPECT(threads_seen >= 2);
        EXPECT_STATUS(PsRemoveCreateThreadNotifyRoutine(sees_threads), STATUS_SUCCESS);
    }
    RULE("PsSetCreateThreadNotifyRoutineEx function", "PsCreateThreadNotifyNonSystem: not told of system threads") {
        threads_seen = 0;
        EXPECT_STATUS(notify(0, sees_threads), STATUS_SUCCESS);
        join_thread(start_thread(ends, NULL));
        EXPECT_EQ(threads_seen, 0);
        EXPECT_STATUS(PsRemoveCreateThreadNotifyRoutine(sees_threads), STATUS_SUCCESS);
        EXPECT_STATUS(PsRemoveCreateThreadNotifyRoutine(sees_threads), STATUS_PROCEDURE_NOT_FOUND);
        EXPECT_STATUS(notify(7, sees_threads), STATUS_INVALID_PARAMETER);
    }
}

static void check_time(void)
{
    ULONGLONG(NTAPI *unbiased)(PULONGLONG counter) = found(L"KeQueryUnbiasedInterruptTimePrecise");
    ULONGLONG(NTAPI *features)(ULONGLONG mask) = found(L"RtlGetEnabledExtendedFeatures");
    ULONG(NTAPI *should_yield)(VOID) = found(L"KeShouldYieldProcessor");
    ULONG(NTAPI *firmware)(VOID) = found(L"ExGetFirmwareType");
    static KDPC dpc;

    RULE("KeQueryUnbiasedInterruptTimePrecise function", "does not go back, and tells the performance counter") {
        ULONGLONG counter = 0, first, second;
        EXPECT(unbiased != NULL);
        first = unbiased(&counter);
        second = unbiased(&counter);
        EXPECT(first && second >= first && counter);
    }
    RULE("KeShouldYieldProcessor function", "not zero where a DPC waits for the processor") {
        KIRQL old;
        EXPECT(should_yield != NULL);
        KeInitializeDpc(&dpc, never_run, NULL);
        KeRaiseIrql(DISPATCH_LEVEL, &old);
        KeInsertQueueDpc(&dpc, NULL, NULL);
        EXPECT(should_yield() != 0);
        EXPECT(KeRemoveQueueDpc(&dpc));
        KeLowerIrql(old);
    }
    RULE("RtlGetEnabledExtendedFeatures function", "of the features in the mask, those that are enabled; SSE is on x64") {
        EXPECT(features != NULL);
        EXPECT_EQ(features(2), 2);
        EXPECT_EQ(features(0), 0);
    }
    RULE("ExGetFirmwareType function", "FirmwareTypeBios or FirmwareTypeUefi") {
        EXPECT(firmware && (firmware() == 1 || firmware() == 2));
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    check_memory();
    check_locks();
    check_threads();
    check_time();
}

SUITE("newer")
