/*
 * Messages to the debugger, and what lets them through. A print callback is the ear: what it hears is what has passed.
 */
#include <stdarg.h>
#include "check.h"

#define COMPONENT DPFLTR_IHVDRIVER_ID
#define NO_COMPONENT 0x10000

static char heard[600];
static ULONG messages, heard_length, heard_component, heard_level;
static KIRQL heard_irql;

static VOID NTAPI listen(PSTRING output, ULONG component, ULONG level)
{
    ULONG i;
    messages++;
    heard_component = component;
    heard_level = level;
    heard_irql = KeGetCurrentIrql();
    heard_length = output->Length;
    for (i = 0; i < output->Length && i < sizeof(heard); i++)
        heard[i] = output->Buffer[i];
}

static int is_heard(const char *text)
{
    ULONG i;
    for (i = 0; text[i]; i++)
        if (i >= heard_length || heard[i] != text[i])
            return 0;
    return i == heard_length;
}

static ULONG list_print(ULONG component, ULONG level, const char *format, ...)
{
    ULONG status;
    va_list words;
    va_start(words, format);
    status = vDbgPrintEx(component, level, format, words);
    va_end(words);
    return status;
}

static ULONG prefix_print(const char *prefix, const char *format, ...)
{
    ULONG status;
    va_list words;
    va_start(words, format);
    status = vDbgPrintExWithPrefix(prefix, COMPONENT, DPFLTR_ERROR_LEVEL, format, words);
    va_end(words);
    return status;
}

static void filters(void)
{
    RULE("DbgSetDebugFilterState", "a level from 0 to 31 is the number of a bit of the component's mask") {
        EXPECT_STATUS(DbgSetDebugFilterState(COMPONENT, 17, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 17), FALSE);
        EXPECT_STATUS(DbgSetDebugFilterState(COMPONENT, 17, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 17), TRUE);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 1 << 17), TRUE);
    }
    RULE("Reading and Filtering Debugging Messages", "a level above 31 is a mask of such bits: one that is set is enough") {
        EXPECT_STATUS(DbgSetDebugFilterState(COMPONENT, 0xFFFFFFFF, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgSetDebugFilterState(COMPONENT, 6, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 0x80000040), TRUE);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 0x80000080), FALSE);
        EXPECT_STATUS(DbgSetDebugFilterState(COMPONENT, DPFLTR_MASK | 0x10, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 4), TRUE);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 31), TRUE);
    }
    RULE("Reading and Filtering Debugging Messages", "errors pass whatever the component's mask: the mask of all has their bit") {
        EXPECT_STATUS(DbgSetDebugFilterState(COMPONENT, 0xFFFFFFFF, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, DPFLTR_ERROR_LEVEL), TRUE);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, DPFLTR_WARNING_LEVEL), FALSE);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, DPFLTR_TRACE_LEVEL), FALSE);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, DPFLTR_INFO_LEVEL), FALSE);
    }
    RULE("Reading and Filtering Debugging Messages", "each component has a mask of its own") {
        EXPECT_STATUS(DbgSetDebugFilterState(DPFLTR_IHVBUS_ID, DPFLTR_INFO_LEVEL, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgQueryDebugFilterState(DPFLTR_IHVBUS_ID, DPFLTR_INFO_LEVEL), TRUE);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, DPFLTR_INFO_LEVEL), FALSE);
    }
    RULE("DbgQueryDebugFilterState", "STATUS_INVALID_PARAMETER_1 where there is no such component") {
        EXPECT_STATUS(DbgQueryDebugFilterState(NO_COMPONENT, 0), STATUS_INVALID_PARAMETER_1);
        EXPECT_STATUS(DbgSetDebugFilterState(NO_COMPONENT, 0, TRUE), STATUS_INVALID_PARAMETER_1);
    }
    RULE("DbgQueryDebugFilterState", "at any IRQL") {
        KIRQL irql;
        KeRaiseIrql(HIGH_LEVEL, &irql);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, DPFLTR_ERROR_LEVEL), TRUE);
        EXPECT_STATUS(DbgSetDebugFilterState(COMPONENT, 9, TRUE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgQueryDebugFilterState(COMPONENT, 9), TRUE);
        KeLowerIrql(irql);
    }
}

static void messages_that_pass(void)
{
    DbgSetDebugFilterState(COMPONENT, 0xFFFFFFFF, FALSE);
    RULE("DbgPrintEx function", "a message passes where its level's bit is set, with component and level") {
        messages = 0;
        DbgSetDebugFilterState(COMPONENT, DPFLTR_TRACE_LEVEL, TRUE);
        EXPECT_STATUS(DbgPrintEx(COMPONENT, DPFLTR_TRACE_LEVEL, "%s %d\n", "passes", 3), STATUS_SUCCESS);
        EXPECT_EQ(messages, 1);
        EXPECT(is_heard("passes 3\n"));
        EXPECT_EQ(heard_component, COMPONENT);
        EXPECT_EQ(heard_level, DPFLTR_TRACE_LEVEL);
    }
    RULE("DbgPrintEx function", "STATUS_SUCCESS also for a message that is kept back") {
        messages = 0;
        EXPECT_STATUS(DbgPrintEx(COMPONENT, DPFLTR_INFO_LEVEL, "is kept back\n"), STATUS_SUCCESS);
        EXPECT_STATUS(DbgPrintEx(COMPONENT, 30, "is kept back\n"), STATUS_SUCCESS);
        EXPECT_STATUS(DbgPrintEx(COMPONENT, 0x40000000, "is kept back\n"), STATUS_SUCCESS);
        EXPECT_EQ(messages, 0);
    }
    RULE("DbgPrintEx function", "arguments beyond those in registers are taken from where a caller puts them") {
        DbgPrintEx(COMPONENT, DPFLTR_ERROR_LEVEL, "%d %d %d %d %d %d\n", 1, 2, 3, 4, 5, 6);
        EXPECT(is_heard("1 2 3 4 5 6\n"));
    }
    RULE("DbgPrint function", "a message of the component DEFAULT at the level of information") {
        DbgPrint("%c%c%c%c%c\n", 'p', 'l', 'a', 'i', 'n');
        EXPECT(is_heard("plain\n"));
        EXPECT_EQ(heard_component, DPFLTR_DEFAULT_ID);
        EXPECT_EQ(heard_level, DPFLTR_INFO_LEVEL);
        messages = 0;
        EXPECT_STATUS(DbgSetDebugFilterState(DPFLTR_DEFAULT_ID, DPFLTR_INFO_LEVEL, FALSE), STATUS_SUCCESS);
        EXPECT_STATUS(DbgPrint("is kept back\n"), STATUS_SUCCESS);
        EXPECT_EQ(messages, 0);
        EXPECT_STATUS(DbgSetDebugFilterState(DPFLTR_DEFAULT_ID, DPFLTR_INFO_LEVEL, TRUE), STATUS_SUCCESS);
    }
    RULE("vDbgPrintEx function", "the arguments are a list; filtered as those of DbgPrintEx") {
        EXPECT_STATUS(list_print(COMPONENT, DPFLTR_ERROR_LEVEL, "%s-%x\n", "list", 0xAB), STATUS_SUCCESS);
        EXPECT(is_heard("list-ab\n"));
        messages = 0;
        EXPECT_STATUS(list_print(COMPONENT, DPFLTR_INFO_LEVEL, "is kept back"), STATUS_SUCCESS);
        EXPECT_EQ(messages, 0);
    }
    RULE("vDbgPrintExWithPrefix function", "the prefix stands before what the format says, in one message") {
        messages = 0;
        EXPECT_STATUS(prefix_print("conformance: ", "%u%%\n", 42), STATUS_SUCCESS);
        EXPECT_EQ(messages, 1);
        EXPECT(is_heard("conformance: 42%\n"));
    }
    RULE("vDbgPrintExWithPrefix function", "the prefix is text, and no format") {
        prefix_print("%s %n ", "%d\n", 1);
        EXPECT(is_heard("%s %n 1\n"));
    }
    RULE("DbgPrint function", "at most 512 bytes of a message") {
        static char text[700];
        RtlFillMemory(text, sizeof(text) - 1, 'x');
        DbgPrintEx(COMPONENT, DPFLTR_ERROR_LEVEL, "%s", text);
        EXPECT(heard_length <= 512 && heard_length >= 500);
        DbgPrintEx(COMPONENT, DPFLTR_ERROR_LEVEL, "\n");
    }
    RULE("DbgPrintEx function", "IRQL <= DIRQL") {
        KIRQL irql;
        KeRaiseIrql(5, &irql);
        DbgPrintEx(COMPONENT, DPFLTR_ERROR_LEVEL, "at DIRQL\n");
        KeLowerIrql(irql);
        EXPECT(is_heard("at DIRQL\n"));
        EXPECT_EQ(heard_irql, 5);
    }
    RULE("DbgPrompt function", "zero where no characters are received, as where no debugger is there to answer") {
        CHAR response[4] = { 1, 2, 3, 4 };
        EXPECT(KD_DEBUGGER_NOT_PRESENT);
        EXPECT_EQ(DbgPrompt("Go on?\n", response, sizeof(response)), 0);
        EXPECT(response[0] == 1 && response[3] == 4);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    filters();
    RULE("DbgSetDebugPrintCallback", "STATUS_SUCCESS for a routine that is to listen; it hears what passes") {
        messages = 0;
        EXPECT_STATUS(DbgSetDebugPrintCallback((PDEBUG_PRINT_CALLBACK)listen, TRUE), STATUS_SUCCESS);
        DbgPrintEx(COMPONENT, DPFLTR_ERROR_LEVEL, "heard\n");
        EXPECT_EQ(messages, 1);
        EXPECT(is_heard("heard\n"));
    }
    RULE("ASSERT macro", "of a checked build: the expression, the file and the line; without a debugger the driver goes on") {
        messages = 0;
        RtlAssert("1 == 2", "card.c", 77, NULL);
        EXPECT_EQ(messages, 1);
        EXPECT(is_heard("\n*** Assertion failed: 1 == 2\n***   Source File: card.c, line 77\n\n"));
    }
    messages_that_pass();
    RULE("DbgSetDebugPrintCallback", "one that is taken back hears nothing any more") {
        messages = 0;
        EXPECT_STATUS(DbgSetDebugPrintCallback((PDEBUG_PRINT_CALLBACK)listen, FALSE), STATUS_SUCCESS);
        DbgPrintEx(COMPONENT, DPFLTR_ERROR_LEVEL, "unheard\n");
        EXPECT_EQ(messages, 0);
        EXPECT(!NT_SUCCESS(DbgSetDebugPrintCallback((PDEBUG_PRINT_CALLBACK)listen, FALSE)));
    }
    DbgSetDebugFilterState(COMPONENT, 0xFFFFFFFF, TRUE);
}

SUITE("Dbg")
