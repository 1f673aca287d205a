/*
 * Rules and what is expected of them.
 *
 *     RULE("KeSetEvent function", "returns the previous state: nonzero where it was signaled") {
 *         EXPECT(KeSetEvent(&event, 0, FALSE) == 0);
 *         EXPECT(KeSetEvent(&event, 0, FALSE) != 0);
 *     }
 *
 * A rule names the page of Windows' driver documentation that states it, and states it again in our words. It is announced
 * before its body runs, so that whoever finds a system that stopped knows which rule it stopped at. Every expectation that
 * does not hold is reported with its line; a rule without any expectation fails, because it has checked nothing.
 *
 * The report goes to the debug port 0xE9 a line at a time, and not through DbgPrint, which is itself under test here and
 * limits how much it passes on. Leave a rule early by `continue`, never by `break` or `return`.
 *
 * A family is one driver. It ends with SUITE("name"), and has
 *
 *     static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path);
 *
 * which DriverEntry calls, in a system thread at PASSIVE_LEVEL. What it makes it takes away again.
 */
#ifndef SQUALL_CHECK_H
#define SQUALL_CHECK_H

#include <ntifs.h>

#define CHECK_PORT 0xE9

static struct {
    const char *family;
    unsigned rules;
    unsigned failed;
    unsigned expectations;
    BOOLEAN bad;
    unsigned length;
    char line[640];
} check_state;

static inline void check_flush(void)
{
    const char *from = check_state.line;
    ULONG_PTR count = check_state.length;
    ULONG_PTR flags;
    /* One instruction without interrupts between its bytes: nothing of this processor comes into the line. */
    __asm__ volatile("pushfq; pop %2; cli; rep outsb; push %2; popfq"
                     : "+S"(from), "+c"(count), "=&r"(flags)
                     : "d"((USHORT)CHECK_PORT)
                     : "memory", "cc");
    check_state.length = 0;
}

static inline void check_char(char c)
{
    if (check_state.length < sizeof(check_state.line))
        check_state.line[check_state.length++] = c;
}

static inline void check_text(const char *text)
{
    while (*text)
        check_char(*text++);
}

static inline void check_hex(ULONGLONG value)
{
    int shift = 60;
    check_text("0x");
    while (shift > 0 && !(value >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        check_char("0123456789abcdef"[(value >> shift) & 15]);
}

static inline void check_decimal(unsigned value)
{
    if (value >= 10)
        check_decimal(value / 10);
    check_char((char)('0' + value % 10));
}

static int rule_begin(const char *page, const char *text, unsigned line)
{
    check_state.rules++;
    check_state.expectations = 0;
    check_state.bad = FALSE;
    check_text("@rule\t");
    check_text(check_state.family);
    check_char('\t');
    check_decimal(line);
    check_char('\t');
    check_text(page);
    check_char('\t');
    check_text(text);
    check_char('\n');
    check_flush();
    return 1;
}

static int rule_end(void)
{
    if (!check_state.expectations) {
        check_state.bad = TRUE;
        check_text("@bad\tthe rule expects nothing\n");
    }
    check_state.failed += check_state.bad;
    check_text(check_state.bad ? "@failed\n" : "@held\n");
    check_flush();
    return 0;
}

static void check_place(unsigned line, const char *what)
{
    check_state.bad = TRUE;
    check_text("@bad\tline ");
    check_decimal(line);
    check_text(": ");
    check_text(what);
}

static int expect(int holds, const char *what, unsigned line)
{
    check_state.expectations++;
    if (!holds) {
        check_place(line, what);
        check_char('\n');
        check_flush();
    }
    return holds;
}

static int expect_equal(ULONGLONG actual, ULONGLONG expected, const char *what, const char *of, unsigned line)
{
    check_state.expectations++;
    if (actual != expected) {
        check_place(line, what);
        check_text(" is ");
        check_hex(actual);
        check_text(", not ");
        check_text(of);
        check_text(" = ");
        check_hex(expected);
        check_char('\n');
        check_flush();
    }
    return actual == expected;
}

#define RULE(page, text) for (int rule_ = rule_begin(page, text, __LINE__); rule_; rule_ = rule_end())
#define EXPECT(condition) expect((condition) != 0, #condition, __LINE__)
#define EXPECT_EQ(actual, expected) \
    expect_equal((ULONGLONG)(ULONG_PTR)(actual), (ULONGLONG)(ULONG_PTR)(expected), #actual, #expected, __LINE__)
#define EXPECT_STATUS(actual, expected) \
    expect_equal((ULONG)(actual), (ULONG)(expected), #actual, #expected, __LINE__)
#define EXPECT_PASSIVE() EXPECT_EQ(KeGetCurrentIrql(), PASSIVE_LEVEL)

/* A relative time. */
static inline LARGE_INTEGER after_us(LONGLONG microseconds)
{
    LARGE_INTEGER time;
    time.QuadPart = -10 * microseconds;
    return time;
}

static inline void sleep_us(LONGLONG microseconds)
{
    LARGE_INTEGER time = after_us(microseconds);
    KeDelayExecutionThread(KernelMode, FALSE, &time);
}

/* 100 ns units since the system started. */
static inline ULONGLONG now_100ns(void)
{
    return KeQueryInterruptTime();
}

static inline int bytes_are(const void *memory, UCHAR value, SIZE_T count)
{
    const UCHAR *byte = memory;
    while (count--)
        if (*byte++ != value)
            return 0;
    return 1;
}

/* A thread of ours, which is waited for by its object. */
static inline PKTHREAD start_thread(PKSTART_ROUTINE routine, PVOID context)
{
    HANDLE handle;
    PVOID thread = NULL;
    if (!NT_SUCCESS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, routine, context)))
        return NULL;
    ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, NULL, KernelMode, &thread, NULL);
    ZwClose(handle);
    return thread;
}

static inline void join_thread(PKTHREAD thread)
{
    KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL);
    ObDereferenceObject(thread);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path);

static VOID NTAPI suite_unload(PDRIVER_OBJECT driver)
{
    (void)driver;
    check_text("@unloaded\n");
    check_flush();
}

static inline void suite_run(const char *family, PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    check_state.family = family;
    driver->DriverUnload = suite_unload;
    checks(driver, path);
    check_text("@end\t");
    check_text(family);
    check_char('\t');
    check_decimal(check_state.rules);
    check_char('\t');
    check_decimal(check_state.failed);
    check_char('\n');
    check_flush();
}

#define SUITE(name)                                                                \
    NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT driver, PUNICODE_STRING path)        \
    {                                                                              \
        suite_run(name, driver, path);                                             \
        return STATUS_SUCCESS;                                                     \
    }

#endif
