// build: -Wno-unused-function
/*
 * A driver that has the system call it at its end: a bug check callback, one for each reason, and one that it has taken back.
 * Every call is told on the debug port, a line each, as "bugcheck: WHO IRQL ...". DriverEntry stops the system.
 */
#include "check.h"

static KBUGCHECK_CALLBACK_RECORD plain, taken_back;
static KBUGCHECK_REASON_CALLBACK_RECORD data, io, pages, also_taken_back;
static UCHAR buffer[16], dump_data[6000], component[] = "bugcheck";
static ULONG add_calls;

/* {6a1f3c52-0d7e-4b1a-9c35-8e2f4477d001} */
static const GUID data_name = { 0x6a1f3c52, 0x0d7e, 0x4b1a, { 0x9c, 0x35, 0x8e, 0x2f, 0x44, 0x77, 0xd0, 0x01 } };

static void said(const char *who, ULONGLONG first, ULONGLONG second)
{
    check_text("bugcheck: ");
    check_text(who);
    check_char(' ');
    check_decimal(KeGetCurrentIrql());
    check_char(' ');
    check_hex(first);
    check_char(' ');
    check_hex(second);
    check_char('\n');
    check_flush();
}

static VOID NTAPI at_the_end(PVOID memory, ULONG length)
{
    said("plain", memory == buffer, length);
}

static VOID NTAPI never(PVOID memory, ULONG length)
{
    said("taken-back", memory == buffer, length);
}

static VOID NTAPI for_a_reason(KBUGCHECK_CALLBACK_REASON reason, PKBUGCHECK_REASON_CALLBACK_RECORD record, PVOID specific,
                               ULONG length)
{
    if (record->State != BufferStarted)
        said("state", record->State, reason);
    if (record == &data && reason == KbCallbackSecondaryDumpData && length == sizeof(KBUGCHECK_SECONDARY_DUMP_DATA)) {
        PKBUGCHECK_SECONDARY_DUMP_DATA dump = specific;
        said("data", dump->OutBuffer == dump->InBuffer, dump->MaximumAllowed >= sizeof(dump_data));
        dump->Guid = data_name;
        dump->OutBuffer = dump_data;
        dump->OutBufferLength = sizeof(dump_data);
    } else if (record == &io && reason == KbCallbackDumpIo && length == sizeof(KBUGCHECK_DUMP_IO)) {
        PKBUGCHECK_DUMP_IO piece = specific;
        const UCHAR *bytes = piece->Buffer;
        said("io", piece->Type, piece->BufferLength);
        if (piece->Type == KbDumpIoHeader)
            said("header", bytes[0] == 'P' && bytes[1] == 'A' && bytes[2] == 'G' && bytes[3] == 'E', piece->Offset == ~0ULL);
        if (piece->Type == KbDumpIoSecondaryData)
            said("is-mine", bytes == dump_data, piece->Offset == ~0ULL);
    } else if (record == &pages && reason == KbCallbackAddPages && length == sizeof(KBUGCHECK_ADD_PAGES)) {
        PKBUGCHECK_ADD_PAGES add = specific;
        said("pages", add->BugCheckCode, (ULONG_PTR)add->Context);
        add->Context = (PVOID)(ULONG_PTR)++add_calls;
        add->Flags = KB_ADD_PAGES_FLAG_VIRTUAL_ADDRESS;
        if (add_calls < 3)
            add->Flags |= KB_ADD_PAGES_FLAG_ADDITIONAL_RANGES_EXIST;
        add->Address = (ULONG_PTR)dump_data;
        add->Count = 2;
    } else {
        said("wrong", reason, length);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    KeInitializeCallbackRecord((&plain));
    KeInitializeCallbackRecord((&taken_back));
    KeInitializeCallbackRecord((&data));
    KeInitializeCallbackRecord((&io));
    KeInitializeCallbackRecord((&pages));
    KeInitializeCallbackRecord((&also_taken_back));
    if (!KeRegisterBugCheckCallback(&plain, at_the_end, buffer, sizeof(buffer), component) ||
        !KeRegisterBugCheckCallback(&taken_back, never, buffer, sizeof(buffer), component) ||
        !KeDeregisterBugCheckCallback(&taken_back) ||
        !KeRegisterBugCheckReasonCallback(&data, for_a_reason, KbCallbackSecondaryDumpData, component) ||
        !KeRegisterBugCheckReasonCallback(&io, for_a_reason, KbCallbackDumpIo, component) ||
        !KeRegisterBugCheckReasonCallback(&also_taken_back, for_a_reason, KbCallbackDumpIo, component) ||
        !KeDeregisterBugCheckReasonCallback(&also_taken_back) ||
        !KeRegisterBugCheckReasonCallback(&pages, for_a_reason, KbCallbackAddPages, component))
        return;
    KeBugCheckEx(MANUALLY_INITIATED_CRASH, 1, 2, 3, 4);
}

SUITE("Bugcheck")
