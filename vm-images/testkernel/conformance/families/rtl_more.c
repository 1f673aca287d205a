// build: -Wno-format -Wno-format-extra-args
/* Names, numbers and texts that file systems and older drivers work with; what the printf family makes of odd formats. */
#include <check.h>
#include <stdio.h>

static int is_bytes(const char *actual, const char *expected)
{
    while (*actual && *actual == *expected) {
        actual++;
        expected++;
    }
    return *actual == *expected;
}

static void strings(void)
{
    UNICODE_STRING copy, source = RTL_CONSTANT_STRING(L"Text"), empty = { 0, 0, NULL };
    ANSI_STRING narrow, tail = RTL_CONSTANT_STRING("cd");
    char room[4] = "ab";

    RULE("RtlCreateUnicodeString function", "a copy with its terminator, which RtlFreeUnicodeString frees") {
        EXPECT(RtlCreateUnicodeString(&copy, source.Buffer));
        EXPECT(copy.Length == 8 && copy.MaximumLength == 10 && copy.Buffer != source.Buffer && !copy.Buffer[4]);
        RtlFreeUnicodeString(&copy);
        EXPECT_EQ(copy.Buffer, NULL);
    }
    RULE("RtlDuplicateUnicodeString function", "terminated where that is asked for; an empty one has no buffer unless that is") {
        EXPECT_STATUS(RtlDuplicateUnicodeString(RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE, &source, &copy), STATUS_SUCCESS);
        EXPECT(copy.MaximumLength == 10 && RtlEqualUnicodeString(&copy, &source, FALSE) && !copy.Buffer[4]);
        RtlFreeUnicodeString(&copy);
        EXPECT_STATUS(RtlDuplicateUnicodeString(RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE, &empty, &copy), STATUS_SUCCESS);
        EXPECT(copy.Buffer == NULL && copy.Length == 0);
        EXPECT_STATUS(RtlDuplicateUnicodeString(RTL_DUPLICATE_UNICODE_STRING_NULL_TERMINATE |
                                                RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING, &empty, &copy), STATUS_SUCCESS);
        EXPECT(copy.Buffer != NULL && copy.MaximumLength == 2 && !copy.Buffer[0]);
        RtlFreeUnicodeString(&copy);
    }
    RULE("RtlDuplicateUnicodeString function", "STATUS_INVALID_PARAMETER for flags that are none and strings that are none") {
        UNICODE_STRING odd = { 3, 8, source.Buffer };
        EXPECT_STATUS(RtlDuplicateUnicodeString(4, &source, &copy), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(RtlDuplicateUnicodeString(RTL_DUPLICATE_UNICODE_STRING_ALLOCATE_NULL_STRING, &source, &copy),
                      STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(RtlDuplicateUnicodeString(0, &odd, &copy), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlValidateUnicodeString function", "STATUS_SUCCESS for what can be a string, STATUS_INVALID_PARAMETER for the rest") {
        UNICODE_STRING longer = { 10, 8, source.Buffer }, nowhere = { 0, 8, NULL };
        EXPECT_STATUS(RtlValidateUnicodeString(0, &source), STATUS_SUCCESS);
        EXPECT_STATUS(RtlValidateUnicodeString(0, &empty), STATUS_SUCCESS);
        EXPECT_STATUS(RtlValidateUnicodeString(0, &longer), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(RtlValidateUnicodeString(0, &nowhere), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(RtlValidateUnicodeString(1, &source), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlAppendStringToString function", "all or nothing: STATUS_BUFFER_TOO_SMALL") {
        narrow.Buffer = room;
        narrow.Length = 2;
        narrow.MaximumLength = 4;
        EXPECT_STATUS(RtlAppendStringToString(&narrow, &tail), STATUS_SUCCESS);
        EXPECT(narrow.Length == 4 && room[3] == 'd');
        EXPECT_STATUS(RtlAppendStringToString(&narrow, &tail), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(narrow.Length, 4);
    }
    RULE("RtlOemStringToUnicodeString function", "and back, in upper case where that is asked for") {
        OEM_STRING oem;
        EXPECT_STATUS(RtlOemStringToUnicodeString(&copy, (POEM_STRING)&tail, TRUE), STATUS_SUCCESS);
        EXPECT(copy.Length == 4 && copy.Buffer[1] == L'd');
        EXPECT_STATUS(RtlUpcaseUnicodeStringToOemString(&oem, &copy, TRUE), STATUS_SUCCESS);
        EXPECT(oem.Length == 2 && oem.Buffer[0] == 'C');
        RtlFreeOemString(&oem);
        RtlFreeUnicodeString(&copy);
    }
    RULE("RtlIntegerToUnicodeString function", "STATUS_BUFFER_OVERFLOW where the digits fit, and their terminator does not") {
        WCHAR digits[4];
        UNICODE_STRING number = { 0, 6, digits };
        EXPECT_STATUS(RtlIntegerToUnicodeString(123, 10, &number), STATUS_BUFFER_OVERFLOW);
        number.MaximumLength = 8;
        EXPECT_STATUS(RtlIntegerToUnicodeString(123, 10, &number), STATUS_SUCCESS);
        EXPECT(number.Length == 6 && !digits[3]);
    }
}

static int in_expression(const WCHAR *pattern, const WCHAR *text)
{
    UNICODE_STRING expression, name;
    RtlInitUnicodeString(&expression, pattern);
    RtlInitUnicodeString(&name, text);
    return FsRtlIsNameInExpression(&expression, &name, TRUE, NULL);
}

static void names(void)
{
    RULE("FsRtlIsNameInExpression function", "* is anything, ? one character; the name's case is ignored") {
        EXPECT(in_expression(L"*.SYS", L"driver.sys") && in_expression(L"*", L"") && in_expression(L"D?IVER*", L"driver.sys"));
        EXPECT(!in_expression(L"*.SYS", L"driver.sy") && !in_expression(L"?", L"") && !in_expression(L"A", L"AB"));
    }
    RULE("FsRtlIsNameInExpression function", "DOS_STAR, DOS_QM and DOS_DOT") {
        EXPECT(in_expression(L"<.TXT", L"a.b.txt") && in_expression(L"A>>>", L"ab") && in_expression(L"NAME\"*", L"name"));
        EXPECT(!in_expression(L"A>", L"abc"));
    }
    RULE("FsRtlDoesNameContainWildCards function", "TRUE for each of the five") {
        UNICODE_STRING plain = RTL_CONSTANT_STRING(L"a.b"), wild = RTL_CONSTANT_STRING(L"a\"b");
        EXPECT(!FsRtlDoesNameContainWildCards(&plain));
        EXPECT(FsRtlDoesNameContainWildCards(&wild));
    }
    RULE("FsRtlDissectName function", "the first part and the rest, without the backslashes around") {
        UNICODE_STRING path = RTL_CONSTANT_STRING(L"\\One\\Two\\Three"), first, rest;
        FsRtlDissectName(path, &first, &rest);
        EXPECT(first.Length == 6 && first.Buffer == path.Buffer + 1);
        EXPECT(rest.Length == 18 && rest.Buffer == path.Buffer + 5);
        FsRtlDissectName(first, &first, &rest);
        EXPECT(first.Length == 6 && rest.Length == 0);
    }
    RULE("RtlRandomEx function", "below MAXLONG, and another seed for the next one") {
        ULONG seed = 7, before;
        int times;
        for (times = 0; times < 100; times++) {
            before = seed;
            EXPECT(RtlRandomEx(&seed) < MAXLONG);
            EXPECT(seed != before);
        }
    }
    RULE("RtlNtStatusToDosError function", "the code that programs know; ERROR_MR_MID_NOT_FOUND where there is none") {
        EXPECT_EQ(RtlNtStatusToDosError(STATUS_SUCCESS), 0);
        EXPECT_EQ(RtlNtStatusToDosError(STATUS_ACCESS_DENIED), 5);
        EXPECT_EQ(RtlNtStatusToDosError(STATUS_OBJECT_NAME_NOT_FOUND), 2);
        EXPECT_EQ(RtlNtStatusToDosError(STATUS_BUFFER_OVERFLOW), 234);
        EXPECT_EQ(RtlNtStatusToDosError(STATUS_PENDING), 997);
        EXPECT_EQ(RtlNtStatusToDosError((NTSTATUS)0xC0AAAAAA), 317);
    }
}

static void prints(void)
{
    char text[64];
    WCHAR wide[32];
    UNICODE_STRING counted = RTL_CONSTANT_STRING(L"counted"), empty = { 0, 0, NULL };
    ANSI_STRING narrow = RTL_CONSTANT_STRING("narrow");

    RULE("Format specification syntax: printf and wprintf functions", "counted strings, with precision and width too") {
        counted.Length = 10;
        _snprintf(text, sizeof(text), "%wZ|%Z|%.3wZ|%7Z", &counted, &narrow, &counted, &narrow);
        EXPECT(is_bytes(text, "count|narrow|cou| narrow"));
        _snprintf(text, sizeof(text), "[%wZ]", &empty);
        EXPECT(is_bytes(text, "[]"));
    }
    RULE("Format specification syntax: printf and wprintf functions", "strings of the other width: %S, %hs, %ls, %ws") {
        _snprintf(text, sizeof(text), "%S|%hs|%ls|%ws|%hS", L"w", "n", L"l", L"x", "h");
        EXPECT(is_bytes(text, "w|n|l|x|h"));
        _snwprintf(wide, 32, L"%s|%S|%hs|%ls", L"w", "n", "h", L"l");
        EXPECT(wide[0] == L'w' && wide[2] == L'n' && wide[4] == L'h' && wide[6] == L'l' && !wide[7]);
    }
    RULE("Format specification syntax: printf and wprintf functions", "64 bits: %I64d, %I64x, %lld, %Ix; 32: %I32u, %lu, %d") {
        _snprintf(text, sizeof(text), "%I64d %I64x %lld %Ix", -5LL, 0x123456789ABULL, 1LL << 40, (SIZE_T)0xF00000000);
        EXPECT(is_bytes(text, "-5 123456789ab 1099511627776 f00000000"));
        _snprintf(text, sizeof(text), "%I32u %lu %d %hd %hhx", 4000000000u, 4000000000ul, -1, 65537, 0x1FF);
        EXPECT(is_bytes(text, "4000000000 4000000000 -1 1 ff"));
    }
    RULE("Format specification syntax: printf and wprintf functions", "flags: zero, left, sign, blank, base; * as width and precision") {
        _snprintf(text, sizeof(text), "%05d|%-5d|%+d|% d|%#x|%#o|%*d|%.*d", -42, 42, 42, 42, 255, 8, 4, 7, 3, 5);
        EXPECT(is_bytes(text, "-0042|42   |+42| 42|0xff|010|   7|005"));
        _snprintf(text, sizeof(text), "%-*d|%08.3d|%#X|%.0d|%c%%", 4, 9, 5, 0xAB, 0, 'z');
        EXPECT(is_bytes(text, "9   |     005|0XAB||z%"));
    }
    RULE("Format specification syntax: printf and wprintf functions", "%p is 16 digits in capitals; %s of NULL is (null)") {
        _snprintf(text, sizeof(text), "%p|%s", (PVOID)0xABCDEF0012, (char *)NULL);
        EXPECT(is_bytes(text, "000000ABCDEF0012|(null)"));
        _snprintf(text, sizeof(text), "%.2s|%5s|%-5s|", "precision", "r", "l");
        EXPECT(is_bytes(text, "pr|    r|l    |"));
    }
    RULE("_snprintf function", "exactly count characters: no terminator, and count; one more: -1") {
        text[3] = '#';
        EXPECT_EQ(_snprintf(text, 3, "abc"), 3);
        EXPECT_EQ(text[3], '#');
        EXPECT_EQ((ULONG)_snprintf(text, 3, "abcd"), (ULONG)-1);
        EXPECT_EQ(text[3], '#');
        EXPECT_EQ(_snprintf(text, 4, "abc"), 3);
        EXPECT_EQ(text[3], 0);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    strings();
    names();
    prints();
}

SUITE("Rtl further")
