// build: -Wl,--forceinteg
/*
 * What drivers have the system call: at a bug check, for an NMI, when threads, images and processes come and go.
 */
#include "check.h"

static UCHAR component[] = "conformance";

static VOID NTAPI at_a_bugcheck(PVOID buffer, ULONG length)
{
    (void)buffer;
    (void)length;
}

static VOID NTAPI for_a_reason(KBUGCHECK_CALLBACK_REASON reason, PKBUGCHECK_REASON_CALLBACK_RECORD record, PVOID data, ULONG length)
{
    (void)reason;
    (void)record;
    (void)data;
    (void)length;
}

static BOOLEAN NTAPI at_an_nmi(PVOID context, BOOLEAN handled)
{
    (void)context;
    return handled;
}

static void at_the_end(void)
{
    static KBUGCHECK_CALLBACK_RECORD plain;
    static KBUGCHECK_REASON_CALLBACK_RECORD reason;
    static UCHAR buffer[8];
    PVOID first = NULL, second = NULL;

    RULE("KeInitializeCallbackRecord macro", "the record's state is that of a record in no list") {
        plain.State = 0x55;
        KeInitializeCallbackRecord((&plain));
        EXPECT_EQ(plain.State, BufferEmpty);
    }
    RULE("KeRegisterBugCheckCallback function", "TRUE where the routine is registered; the record holds what was given") {
        EXPECT_EQ(KeRegisterBugCheckCallback(&plain, at_a_bugcheck, buffer, sizeof(buffer), component), TRUE);
        EXPECT_EQ(plain.State, BufferInserted);
        EXPECT_EQ(plain.CallbackRoutine, at_a_bugcheck);
        EXPECT_EQ(plain.Buffer, buffer);
        EXPECT_EQ(plain.Length, sizeof(buffer));
        EXPECT_EQ(plain.Component, component);
    }
    RULE("KeRegisterBugCheckCallback function", "FALSE where the record is registered already") {
        EXPECT_EQ(KeRegisterBugCheckCallback(&plain, at_a_bugcheck, buffer, sizeof(buffer), component), FALSE);
        EXPECT_EQ(plain.State, BufferInserted);
    }
    RULE("KeDeregisterBugCheckCallback function", "TRUE where the record is taken back, FALSE where it is not registered") {
        EXPECT_EQ(KeDeregisterBugCheckCallback(&plain), TRUE);
        EXPECT_EQ(plain.State, BufferEmpty);
        EXPECT_EQ(KeDeregisterBugCheckCallback(&plain), FALSE);
    }
    RULE("KeRegisterBugCheckReasonCallback function", "TRUE for each reason of which a record is registered") {
        KBUGCHECK_CALLBACK_REASON which;
        for (which = KbCallbackSecondaryDumpData; which <= KbCallbackAddPages; which++) {
            KeInitializeCallbackRecord((&reason));
            EXPECT_EQ(KeRegisterBugCheckReasonCallback(&reason, for_a_reason, which, component), TRUE);
            EXPECT_EQ(reason.Reason, which);
            EXPECT_EQ(reason.CallbackRoutine, for_a_reason);
            EXPECT_EQ(reason.Component, component);
            EXPECT_EQ(reason.State, BufferInserted);
            EXPECT_EQ(KeDeregisterBugCheckReasonCallback(&reason), TRUE);
        }
    }
    RULE("KeRegisterBugCheckReasonCallback function", "FALSE where the record is registered already, for whatever reason") {
        EXPECT_EQ(KeRegisterBugCheckReasonCallback(&reason, for_a_reason, KbCallbackDumpIo, component), TRUE);
        EXPECT_EQ(KeRegisterBugCheckReasonCallback(&reason, for_a_reason, KbCallbackDumpIo, component), FALSE);
        EXPECT_EQ(KeRegisterBugCheckReasonCallback(&reason, for_a_reason, KbCallbackAddPages, component), FALSE);
        EXPECT_EQ(reason.Reason, KbCallbackDumpIo);
    }
    RULE("KeDeregisterBugCheckReasonCallback function", "TRUE where the record is taken back, FALSE where it is not registered") {
        EXPECT_EQ(KeDeregisterBugCheckReasonCallback(&reason), TRUE);
        EXPECT_EQ(KeDeregisterBugCheckReasonCallback(&reason), FALSE);
    }
    RULE("KBUGCHECK_CALLBACK_REASON enumeration", "a record cannot be registered for KbCallbackInvalid") {
        EXPECT_EQ(KeRegisterBugCheckReasonCallback(&reason, for_a_reason, KbCallbackInvalid, component), FALSE);
        EXPECT_EQ(KeDeregisterBugCheckReasonCallback(&reason), FALSE);
    }
    RULE("KeRegisterBugCheckReasonCallback function", "at any IRQL") {
        KIRQL irql;
        BOOLEAN registered, taken_back;
        KeRaiseIrql(HIGH_LEVEL, &irql);
        registered = KeRegisterBugCheckReasonCallback(&reason, for_a_reason, KbCallbackAddPages, component);
        taken_back = KeDeregisterBugCheckReasonCallback(&reason);
        KeLowerIrql(irql);
        EXPECT_EQ(registered, TRUE);
        EXPECT_EQ(taken_back, TRUE);
    }
    RULE("KeRegisterNmiCallback function", "an opaque pointer for each registration, of the same routine too") {
        first = KeRegisterNmiCallback((PNMI_CALLBACK)at_an_nmi, NULL);
        second = KeRegisterNmiCallback((PNMI_CALLBACK)at_an_nmi, &plain);
        EXPECT(first != NULL && second != NULL);
        EXPECT(first != second);
    }
    RULE("KeDeregisterNmiCallback function", "STATUS_SUCCESS, and STATUS_INVALID_HANDLE where no callback has that handle") {
        EXPECT_STATUS(KeDeregisterNmiCallback(first), STATUS_SUCCESS);
        EXPECT_STATUS(KeDeregisterNmiCallback(first), STATUS_INVALID_HANDLE);
        EXPECT_STATUS(KeDeregisterNmiCallback(second), STATUS_SUCCESS);
        EXPECT_STATUS(KeDeregisterNmiCallback(NULL), STATUS_INVALID_HANDLE);
    }
}

static struct {
    LONG created, ended;
    HANDLE process, thread;
    HANDLE created_on, ended_on;
    KIRQL irql;
    BOOLEAN apcs_off, has_run;
} seen;
static LONG has_run;

static VOID NTAPI thread_notify(HANDLE process, HANDLE thread, BOOLEAN create)
{
    seen.process = process;
    seen.thread = thread;
    seen.irql = KeGetCurrentIrql();
    seen.apcs_off = KeAreApcsDisabled();
    if (create) {
        seen.created++;
        seen.created_on = PsGetCurrentThreadId();
        seen.has_run = has_run != 0;
    } else {
        seen.ended++;
        seen.ended_on = PsGetCurrentThreadId();
    }
}

static HANDLE own_id;

static VOID NTAPI returns(PVOID context)
{
    (void)context;
    own_id = PsGetCurrentThreadId();
    InterlockedIncrement(&has_run);
}

static VOID NTAPI ends_itself(PVOID context)
{
    returns(context);
    PsTerminateSystemThread(STATUS_SUCCESS);
}

static void threads(void)
{
    PKTHREAD thread;

    RULE("PsSetCreateThreadNotifyRoutine function", "STATUS_SUCCESS; called when a thread is created, on the thread that creates it") {
        EXPECT_STATUS(PsSetCreateThreadNotifyRoutine(thread_notify), STATUS_SUCCESS);
        thread = start_thread(returns, NULL);
        EXPECT(thread != NULL);
        if (!thread)
            continue;
        join_thread(thread);
        EXPECT_EQ(seen.created, 1);
        EXPECT_EQ(seen.created_on, PsGetCurrentThreadId());
        EXPECT_EQ(seen.process, PsGetCurrentProcessId());
        EXPECT_EQ(seen.thread, own_id);
        EXPECT(!seen.has_run);
    }
    RULE("PsSetCreateThreadNotifyRoutine function", "called when a thread is deleted, on the thread that ends") {
        EXPECT_EQ(seen.ended, 1);
        EXPECT_EQ(seen.ended_on, own_id);
        EXPECT_EQ(seen.thread, own_id);
        thread = start_thread(ends_itself, NULL);
        EXPECT(thread != NULL);
        if (!thread)
            continue;
        join_thread(thread);
        EXPECT_EQ(seen.created, 2);
        EXPECT_EQ(seen.ended, 2);
        EXPECT_EQ(seen.ended_on, own_id);
    }
    RULE("PCREATE_THREAD_NOTIFY_ROUTINE callback function", "at PASSIVE_LEVEL or APC_LEVEL, normal kernel APCs off") {
        EXPECT(seen.irql <= APC_LEVEL);
        EXPECT(seen.apcs_off);
    }
    RULE("PsRemoveCreateThreadNotifyRoutine function", "the routine is not called any more") {
        EXPECT_STATUS(PsRemoveCreateThreadNotifyRoutine(thread_notify), STATUS_SUCCESS);
        thread = start_thread(returns, NULL);
        EXPECT(thread != NULL);
        if (thread)
            join_thread(thread);
        EXPECT_EQ(seen.created, 2);
        EXPECT_EQ(seen.ended, 2);
    }
    RULE("PsRemoveCreateThreadNotifyRoutine function", "STATUS_PROCEDURE_NOT_FOUND where the routine is not registered") {
        EXPECT_STATUS(PsRemoveCreateThreadNotifyRoutine(thread_notify), STATUS_PROCEDURE_NOT_FOUND);
    }
}

static VOID NTAPI image_notify(PUNICODE_STRING name, HANDLE process, PIMAGE_INFO info)
{
    (void)name;
    (void)process;
    (void)info;
}

static VOID NTAPI process_notify(HANDLE parent, HANDLE process, BOOLEAN create)
{
    (void)parent;
    (void)process;
    (void)create;
}

static VOID NTAPI process_notify_ex(PEPROCESS process, HANDLE id, PPS_CREATE_NOTIFY_INFO info)
{
    (void)process;
    (void)id;
    (void)info;
}

static void images_and_processes(void)
{
    RULE("PsSetLoadImageNotifyRoutine function", "STATUS_SUCCESS") {
        EXPECT_STATUS(PsSetLoadImageNotifyRoutine(image_notify), STATUS_SUCCESS);
    }
    RULE("PsRemoveLoadImageNotifyRoutine function", "STATUS_SUCCESS, and STATUS_PROCEDURE_NOT_FOUND where it is not registered") {
        EXPECT_STATUS(PsRemoveLoadImageNotifyRoutine(image_notify), STATUS_SUCCESS);
        EXPECT_STATUS(PsRemoveLoadImageNotifyRoutine(image_notify), STATUS_PROCEDURE_NOT_FOUND);
    }
    RULE("PsSetLoadImageNotifyRoutineEx function", "STATUS_INVALID_PARAMETER_2 for flags that are none") {
        UNICODE_STRING name = RTL_CONSTANT_STRING(L"PsSetLoadImageNotifyRoutineEx");
        NTSTATUS(NTAPI * set)(PLOAD_IMAGE_NOTIFY_ROUTINE, ULONG_PTR) = MmGetSystemRoutineAddress(&name);
        EXPECT(set != NULL);
        if (!set)
            continue;
        EXPECT_STATUS(set(image_notify, 0x100), STATUS_INVALID_PARAMETER_2);
        EXPECT_STATUS(set(image_notify, 1), STATUS_SUCCESS);
        EXPECT_STATUS(PsRemoveLoadImageNotifyRoutine(image_notify), STATUS_SUCCESS);
    }
    RULE("PsSetCreateProcessNotifyRoutine function", "STATUS_INVALID_PARAMETER where the routine is registered already") {
        EXPECT_STATUS(PsSetCreateProcessNotifyRoutine(process_notify, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(PsSetCreateProcessNotifyRoutine(process_notify, FALSE), STATUS_INVALID_PARAMETER);
    }
    RULE("PsSetCreateProcessNotifyRoutine function", "Remove: STATUS_SUCCESS, and an error where the routine is not registered") {
        EXPECT_STATUS(PsSetCreateProcessNotifyRoutine(process_notify, TRUE), STATUS_SUCCESS);
        EXPECT(!NT_SUCCESS(PsSetCreateProcessNotifyRoutine(process_notify, TRUE)));
    }
    RULE("PsSetCreateProcessNotifyRoutineEx function", "of an image with IMAGE_DLLCHARACTERISTICS_FORCE_INTEGRITY: STATUS_SUCCESS") {
        EXPECT_STATUS(PsSetCreateProcessNotifyRoutineEx(process_notify_ex, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(PsSetCreateProcessNotifyRoutineEx(process_notify_ex, FALSE), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(PsSetCreateProcessNotifyRoutineEx(process_notify_ex, TRUE), STATUS_SUCCESS);
        EXPECT(!NT_SUCCESS(PsSetCreateProcessNotifyRoutineEx(process_notify_ex, TRUE)));
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    at_the_end();
    threads();
    images_and_processes();
}

SUITE("Callbacks")
