// build: -msse2
/*
 * Processors: how they belong together, which of them a thread runs on and for how long, and what of their state is saved.
 */
#include "check.h"

/* The header writes XSTATE_MASK_LEGACY in Microsoft's own spelling of constants. */
#define LEGACY_STATE 3

static void binding(void)
{
    ULONG count = KeQueryActiveProcessorCount(NULL), i;
    GROUP_AFFINITY wanted, before, nested;

    RtlZeroMemory(&wanted, sizeof(wanted));
    RULE("KeSetSystemGroupAffinityThread function", "the thread runs on the processors of the mask when it returns") {
        for (i = 0; i < count; i++) {
            PROCESSOR_NUMBER number;
            wanted.Mask = (KAFFINITY)1 << i;
            KeSetSystemGroupAffinityThread(&wanted, &before);
            EXPECT_EQ(KeGetCurrentProcessorNumberEx(&number), i);
            EXPECT_EQ(before.Mask, 0);
            KeRevertToUserGroupAffinityThread(&before);
        }
    }
    RULE("KeSetSystemGroupAffinityThread function", "PreviousAffinity is what was set before; it undoes a nested call") {
        wanted.Mask = 1;
        KeSetSystemGroupAffinityThread(&wanted, &before);
        wanted.Mask = (KAFFINITY)1 << (count - 1);
        KeSetSystemGroupAffinityThread(&wanted, &nested);
        EXPECT_EQ(nested.Mask, 1);
        EXPECT_EQ(nested.Group, 0);
        KeRevertToUserGroupAffinityThread(&nested);
        EXPECT_EQ(KeGetCurrentProcessorNumberEx(NULL), 0);
        KeRevertToUserGroupAffinityThread(&before);
    }
    RULE("KeSetSystemGroupAffinityThread function", "an affinity that cannot be: nothing changes, PreviousAffinity is all zero") {
        wanted.Mask = 0;
        before.Mask = 5;
        KeSetSystemGroupAffinityThread(&wanted, &before);
        EXPECT_EQ(before.Mask, 0);
        wanted.Mask = 1;
        wanted.Group = 7;
        before.Mask = 5;
        KeSetSystemGroupAffinityThread(&wanted, &before);
        EXPECT_EQ(before.Mask, 0);
        wanted.Group = 0;
    }
    RULE("KeSetSystemAffinityThreadEx function", "the previous system affinity, or zero where there was none") {
        EXPECT_EQ(KeSetSystemAffinityThreadEx(1), 0);
        EXPECT_EQ(KeSetSystemAffinityThreadEx((KAFFINITY)1 << (count - 1)), 1);
        KeRevertToUserAffinityThreadEx(1);
        EXPECT_EQ(KeGetCurrentProcessorNumberEx(NULL), 0);
        KeRevertToUserAffinityThreadEx(0);
    }
    RULE("KeSetBasePriorityThread function", "relative to the process's base priority; returns the increment before") {
        PKTHREAD thread = KeGetCurrentThread();
        KPRIORITY priority = KeQueryPriorityThread(thread);
        LONG old = KeSetBasePriorityThread(thread, 2);
        EXPECT_EQ(KeQueryPriorityThread(thread), priority - old + 2);
        EXPECT_EQ(KeSetBasePriorityThread(thread, -3), 2);
        EXPECT_EQ(KeSetBasePriorityThread(thread, old), (LONG)-3);
        EXPECT_EQ(KeQueryPriorityThread(thread), priority);
    }
}

static void topology(void)
{
    static UCHAR buffer[4096];
    SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX *info = (PVOID)buffer;
    ULONG count = KeQueryActiveProcessorCount(NULL), length, all = 0;
    GROUP_AFFINITY set;
    USHORT nodes;

    RULE("KeQueryNodeActiveAffinity function", "the processors of the node, and how many; none of a node that there is not") {
        KeQueryNodeActiveAffinity(0, &set, &nodes);
        EXPECT_EQ(set.Mask, KeQueryActiveProcessors());
        EXPECT_EQ(set.Group, 0);
        EXPECT_EQ(nodes, count);
        KeQueryNodeActiveAffinity(60, &set, &nodes);
        EXPECT_EQ(set.Mask, 0);
        EXPECT_EQ(nodes, 0);
        KeQueryNodeActiveAffinity(0, NULL, NULL);
    }
    RULE("KeQueryNodeMaximumProcessorCount function", "not fewer than are active; zero for a node that there is not") {
        EXPECT(KeQueryNodeMaximumProcessorCount(0) >= count);
        EXPECT_EQ(KeQueryNodeMaximumProcessorCount(60), 0);
    }
    RULE("KeQueryLogicalProcessorRelationship function", "STATUS_INFO_LENGTH_MISMATCH and the length, where the buffer is too small") {
        length = 0;
        EXPECT_STATUS(KeQueryLogicalProcessorRelationship(NULL, RelationAll, NULL, &length), STATUS_INFO_LENGTH_MISMATCH);
        EXPECT(length > 0 && length <= sizeof(buffer));
        all = length;
    }
    RULE("KeQueryLogicalProcessorRelationship function", "RelationAll: records one behind the other, of the length told") {
        ULONG at = 0, cores = 0;
        length = sizeof(buffer);
        EXPECT_STATUS(KeQueryLogicalProcessorRelationship(NULL, RelationAll, info, &length), STATUS_SUCCESS);
        EXPECT_EQ(length, all);
        while (at < length && ((SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX *)(buffer + at))->Size) {
            cores += ((SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX *)(buffer + at))->Relationship == RelationProcessorCore;
            at += ((SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX *)(buffer + at))->Size;
        }
        EXPECT_EQ(at, length);
        EXPECT(cores >= 1 && cores <= count);
    }
    RULE("KeQueryLogicalProcessorRelationship function", "RelationGroup: the groups and their processors") {
        length = sizeof(buffer);
        EXPECT_STATUS(KeQueryLogicalProcessorRelationship(NULL, RelationGroup, info, &length), STATUS_SUCCESS);
        EXPECT_EQ(info->Group.ActiveGroupCount, KeQueryActiveGroupCount());
        EXPECT_EQ(info->Group.GroupInfo[0].ActiveProcessorCount, count);
        EXPECT_EQ(info->Group.GroupInfo[0].ActiveProcessorMask, KeQueryActiveProcessors());
    }
    RULE("KeQueryLogicalProcessorRelationship function", "with a processor's number: what that processor belongs to") {
        PROCESSOR_NUMBER number = { 0, (UCHAR)(count - 1), 0 };
        length = sizeof(buffer);
        EXPECT_STATUS(KeQueryLogicalProcessorRelationship(&number, RelationProcessorCore, info, &length), STATUS_SUCCESS);
        EXPECT_EQ(length, info->Size);
        EXPECT(info->Processor.GroupMask[0].Mask & (KAFFINITY)1 << (count - 1));
    }
    RULE("KeQueryLogicalProcessorRelationship function", "STATUS_INVALID_PARAMETER for a processor that there is not") {
        PROCESSOR_NUMBER number = { 0, 63, 0 };
        length = sizeof(buffer);
        EXPECT_STATUS(KeQueryLogicalProcessorRelationship(&number, RelationProcessorCore, info, &length),
                      STATUS_INVALID_PARAMETER);
    }
    RULE("KeInvalidateAllCaches function", "TRUE; memory is what it was") {
        buffer[0] = 42;
        EXPECT_EQ(KeInvalidateAllCaches(), TRUE);
        EXPECT_EQ(*(volatile UCHAR *)buffer, 42);
    }
    RULE("KeInvalidateRangeAllCaches function", "memory is what it was") {
        buffer[99] = 43;
        KeInvalidateRangeAllCaches(buffer, sizeof(buffer));
        EXPECT_EQ(*(volatile UCHAR *)(buffer + 99), 43);
    }
}

static ULONG announced, there, called_off, refuse;

static VOID NTAPI processor_change(PVOID context, PKE_PROCESSOR_CHANGE_NOTIFY_CONTEXT change, PNTSTATUS status)
{
    announced += change->State == KeProcessorAddStartNotify;
    there += change->State == KeProcessorAddCompleteNotify;
    called_off += change->State == KeProcessorAddFailureNotify;
    if (context != &announced || change->ProcNumber.Number != change->NtNumber)
        announced += 1000;
    if (refuse && change->State == KeProcessorAddStartNotify)
        *status = STATUS_INSUFFICIENT_RESOURCES;
}

static void changes(void)
{
    ULONG count = KeQueryActiveProcessorCount(NULL);
    PVOID handle;

    RULE("KeRegisterProcessorChangeCallback function", "KE_PROCESSOR_CHANGE_ADD_EXISTING: every active processor, start and complete") {
        handle = KeRegisterProcessorChangeCallback(processor_change, &announced, KE_PROCESSOR_CHANGE_ADD_EXISTING);
        EXPECT(handle != NULL);
        EXPECT_EQ(announced, count);
        EXPECT_EQ(there, count);
        EXPECT_EQ(called_off, 0);
        if (handle)
            KeDeregisterProcessorChangeCallback(handle);
    }
    RULE("KeRegisterProcessorChangeCallback function", "without the flag nobody is told of processors that exist") {
        announced = there = 0;
        handle = KeRegisterProcessorChangeCallback(processor_change, &announced, 0);
        EXPECT(handle != NULL);
        EXPECT_EQ(announced + there, 0);
        if (handle)
            KeDeregisterProcessorChangeCallback(handle);
    }
    RULE("KeRegisterProcessorChangeCallback function", "NULL where the routine refuses a processor") {
        refuse = TRUE;
        announced = there = 0;
        EXPECT(KeRegisterProcessorChangeCallback(processor_change, &announced, KE_PROCESSOR_CHANGE_ADD_EXISTING) == NULL);
        EXPECT_EQ(announced, 1);
        EXPECT_EQ(there, 0);
    }
}

static void run_time(void)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"KeQueryTotalCycleTimeThread");
    ULONG64(NTAPI * cycles)(PKTHREAD, PULONG64) = MmGetSystemRoutineAddress(&name);

    RULE("KeQueryTotalCycleTimeThread function", "grows while the thread runs; the time stamp is the processor's counter") {
        ULONG64 stamp = 0, before, after, counter = __builtin_ia32_rdtsc();
        EXPECT(cycles != NULL);
        if (!cycles)
            continue;
        before = cycles(KeGetCurrentThread(), &stamp);
        EXPECT(stamp >= counter);
        KeStallExecutionProcessor(2000);
        after = cycles(KeGetCurrentThread(), &stamp);
        EXPECT(after > before);
        EXPECT(after <= stamp);
    }
    RULE("KeQueryRuntimeThread function", "ticks of kernel mode, which do not fall; no user time of a system thread") {
        ULONG user = 7, first = KeQueryRuntimeThread(KeGetCurrentThread(), &user);
        EXPECT_EQ(user, 0);
        KeStallExecutionProcessor(40000);
        EXPECT(KeQueryRuntimeThread(KeGetCurrentThread(), &user) >= first);
    }
}

static void saved_state(void)
{
    ULONG64 register_value;

    RULE("KeSaveExtendedProcessorState function", "XSTATE_MASK_LEGACY: the SSE registers are restored") {
        XSTATE_SAVE save;
        ULONG64 kept = 0x1122334455667788, other = 9;
        __asm__ volatile("movq %0, %%xmm7" : : "r"(kept) : "xmm7");
        EXPECT_STATUS(KeSaveExtendedProcessorState(LEGACY_STATE, &save), STATUS_SUCCESS);
        __asm__ volatile("movq %0, %%xmm7" : : "r"(other) : "xmm7");
        KeRestoreExtendedProcessorState(&save);
        __asm__ volatile("movq %%xmm7, %0" : "=r"(register_value));
        EXPECT_EQ(register_value, kept);
    }
    RULE("KeSaveExtendedProcessorState function", "IRQL <= DISPATCH_LEVEL") {
        XSTATE_SAVE save;
        KIRQL irql;
        NTSTATUS status;
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        status = KeSaveExtendedProcessorState(LEGACY_STATE, &save);
        if (NT_SUCCESS(status))
            KeRestoreExtendedProcessorState(&save);
        KeLowerIrql(irql);
        EXPECT_STATUS(status, STATUS_SUCCESS);
    }
    RULE("KeQueryDpcWatchdogInformation function", "STATUS_SUCCESS at DISPATCH_LEVEL") {
        KDPC_WATCHDOG_INFORMATION information;
        KIRQL irql;
        NTSTATUS status;
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        status = KeQueryDpcWatchdogInformation(&information);
        KeLowerIrql(irql);
        EXPECT_STATUS(status, STATUS_SUCCESS);
        EXPECT(information.DpcTimeCount <= information.DpcTimeLimit);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    binding();
    topology();
    changes();
    run_time();
    saved_state();
}

SUITE("Processors")
