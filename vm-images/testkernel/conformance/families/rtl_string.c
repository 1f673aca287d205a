/* Counted strings: initialization, comparison, copying, appending, case, conversion. */
#include <check.h>

static void counted(void)
{
    static WCHAR longest[0x8001];
    UNICODE_STRING string;
    ANSI_STRING ansi;
    UNICODE_STRING constant = RTL_CONSTANT_STRING(L"constant");

    RULE("RtlInitUnicodeString function", "the length is that of the text in bytes, the maximum one character more") {
        RtlInitUnicodeString(&string, L"abc");
        EXPECT_EQ(string.Length, 6);
        EXPECT_EQ(string.MaximumLength, 8);
        EXPECT(string.Buffer[3] == 0);
    }
    RULE("RtlInitUnicodeString function", "a null source gives zero lengths and a null buffer") {
        RtlInitUnicodeString(&string, NULL);
        EXPECT_EQ(string.Length, 0);
        EXPECT_EQ(string.MaximumLength, 0);
        EXPECT(string.Buffer == NULL);
    }
    RULE("RtlInitUnicodeString function", "an empty source has length 0 and room for its terminator") {
        RtlInitUnicodeString(&string, L"");
        EXPECT_EQ(string.Length, 0);
        EXPECT_EQ(string.MaximumLength, 2);
    }
    RULE("RtlInitAnsiString function", "the length is that of the text, the maximum one more") {
        RtlInitAnsiString(&ansi, "abcd");
        EXPECT_EQ(ansi.Length, 4);
        EXPECT_EQ(ansi.MaximumLength, 5);
    }
    RULE("RtlInitAnsiString function", "a null source gives an empty string without a buffer") {
        RtlInitAnsiString(&ansi, NULL);
        EXPECT_EQ(ansi.Length, 0);
        EXPECT_EQ(ansi.MaximumLength, 0);
        EXPECT(ansi.Buffer == NULL);
    }
    RULE("RtlInitString function", "a null source gives an empty string without a buffer") {
        STRING plain;
        RtlInitString(&plain, "ab");
        EXPECT_EQ(plain.Length, 2);
        EXPECT_EQ(plain.MaximumLength, 3);
        RtlInitString(&plain, NULL);
        EXPECT_EQ(plain.Length, 0);
    }
    RULE("RtlInitUnicodeStringEx function", "a string too long for its length field is STATUS_NAME_TOO_LONG") {
        for (unsigned i = 0; i < 0x8000; i++)
            longest[i] = L'x';
        EXPECT_STATUS(RtlInitUnicodeStringEx(&string, longest), STATUS_NAME_TOO_LONG);
        EXPECT_STATUS(RtlInitUnicodeStringEx(&string, L"abc"), STATUS_SUCCESS);
        EXPECT_EQ(string.Length, 6);
    }
    RULE("RTL_CONSTANT_STRING macro", "is a counted string whose maximum includes the terminator") {
        EXPECT_EQ(constant.Length, 16);
        EXPECT_EQ(constant.MaximumLength, 18);
    }
}

static void comparison(void)
{
    UNICODE_STRING a = RTL_CONSTANT_STRING(L"Device");
    UNICODE_STRING b = RTL_CONSTANT_STRING(L"dEVICE");
    UNICODE_STRING longer = RTL_CONSTANT_STRING(L"Device0");
    UNICODE_STRING umlaut = RTL_CONSTANT_STRING(L"\u00e4\u00f6");
    UNICODE_STRING upper = RTL_CONSTANT_STRING(L"\u00c4\u00d6");
    UNICODE_STRING empty = { 0, 0, NULL };

    RULE("RtlCompareUnicodeString function", "equal strings compare as zero") {
        EXPECT_EQ(RtlCompareUnicodeString(&a, &a, FALSE), 0);
        EXPECT_EQ(RtlCompareUnicodeString(&a, &b, TRUE), 0);
    }
    RULE("RtlCompareUnicodeString function", "case counts where it is not ignored: an upper-case letter is less") {
        EXPECT(RtlCompareUnicodeString(&a, &b, FALSE) < 0);
        EXPECT(RtlCompareUnicodeString(&b, &a, FALSE) > 0);
    }
    RULE("RtlCompareUnicodeString function", "a prefix is less than the longer string") {
        EXPECT(RtlCompareUnicodeString(&a, &longer, FALSE) < 0);
        EXPECT(RtlCompareUnicodeString(&longer, &a, TRUE) > 0);
        EXPECT(RtlCompareUnicodeString(&empty, &a, TRUE) < 0);
    }
    RULE("RtlEqualUnicodeString function", "is TRUE for equal strings and heeds its case argument") {
        EXPECT(RtlEqualUnicodeString(&a, &b, TRUE));
        EXPECT(!RtlEqualUnicodeString(&a, &b, FALSE));
        EXPECT(!RtlEqualUnicodeString(&a, &longer, TRUE));
        EXPECT(RtlEqualUnicodeString(&empty, &empty, FALSE));
    }
    RULE("RtlEqualUnicodeString function", "case folding is not limited to ASCII") {
        EXPECT(RtlEqualUnicodeString(&umlaut, &upper, TRUE));
        EXPECT(!RtlEqualUnicodeString(&umlaut, &upper, FALSE));
    }
    RULE("RtlPrefixUnicodeString function", "is TRUE where the first string begins the second") {
        EXPECT(RtlPrefixUnicodeString(&a, &longer, FALSE));
        EXPECT(RtlPrefixUnicodeString(&b, &longer, TRUE));
        EXPECT(!RtlPrefixUnicodeString(&b, &longer, FALSE));
        EXPECT(!RtlPrefixUnicodeString(&longer, &a, TRUE));
        EXPECT(RtlPrefixUnicodeString(&empty, &a, FALSE));
    }
    RULE("RtlEqualString function", "compares counted byte strings and heeds its case argument") {
        ANSI_STRING x, y;
        RtlInitAnsiString(&x, "Abc");
        RtlInitAnsiString(&y, "aBC");
        EXPECT(RtlEqualString(&x, &y, TRUE));
        EXPECT(!RtlEqualString(&x, &y, FALSE));
    }
    RULE("RtlCompareString function", "negative, zero or positive as the first is less, equal or greater") {
        ANSI_STRING x, y;
        RtlInitAnsiString(&x, "abc");
        RtlInitAnsiString(&y, "abd");
        EXPECT(RtlCompareString(&x, &y, FALSE) < 0);
        EXPECT(RtlCompareString(&y, &x, FALSE) > 0);
        EXPECT_EQ(RtlCompareString(&x, &x, FALSE), 0);
    }
}

static void copying(void)
{
    WCHAR room[8];
    UNICODE_STRING to = { 0, sizeof(room), room };
    UNICODE_STRING from = RTL_CONSTANT_STRING(L"abcdefghijkl");
    UNICODE_STRING ab = RTL_CONSTANT_STRING(L"ab");

    RULE("RtlCopyUnicodeString function", "copies as much as the maximum allows and sets the length") {
        RtlCopyUnicodeString(&to, &from);
        EXPECT_EQ(to.Length, 16);
        EXPECT_EQ(to.MaximumLength, 16);
        EXPECT(room[7] == L'h');
    }
    RULE("RtlCopyUnicodeString function", "adds a terminator where there is room") {
        RtlFillMemory(room, sizeof(room), 0xFF);
        RtlCopyUnicodeString(&to, &ab);
        EXPECT_EQ(to.Length, 4);
        EXPECT(room[1] == L'b' && room[2] == 0);
        EXPECT(room[3] == 0xFFFF);
    }
    RULE("RtlCopyUnicodeString function", "a null source sets the length to zero") {
        to.Length = 4;
        RtlCopyUnicodeString(&to, NULL);
        EXPECT_EQ(to.Length, 0);
    }
    RULE("RtlAppendUnicodeStringToString function", "appends, terminates where there is room, and sets the length") {
        to.Length = 0;
        EXPECT_STATUS(RtlAppendUnicodeStringToString(&to, &ab), STATUS_SUCCESS);
        EXPECT_STATUS(RtlAppendUnicodeStringToString(&to, &ab), STATUS_SUCCESS);
        EXPECT_EQ(to.Length, 8);
        EXPECT(room[2] == L'a' && room[3] == L'b' && room[4] == 0);
    }
    RULE("RtlAppendUnicodeStringToString function", "too small a destination is STATUS_BUFFER_TOO_SMALL and unchanged") {
        to.Length = 8;
        room[4] = L'!';
        EXPECT_STATUS(RtlAppendUnicodeStringToString(&to, &from), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(to.Length, 8);
        EXPECT(room[4] == L'!');
    }
    RULE("RtlAppendUnicodeStringToString function", "fills the destination exactly, without a terminator") {
        UNICODE_STRING four = RTL_CONSTANT_STRING(L"wxyz");
        to.Length = 8;
        EXPECT_STATUS(RtlAppendUnicodeStringToString(&to, &four), STATUS_SUCCESS);
        EXPECT_EQ(to.Length, 16);
    }
    RULE("RtlAppendUnicodeToString function", "appends text that ends with zero; a null source changes nothing") {
        to.Length = 0;
        EXPECT_STATUS(RtlAppendUnicodeToString(&to, L"xyz"), STATUS_SUCCESS);
        EXPECT_EQ(to.Length, 6);
        EXPECT_STATUS(RtlAppendUnicodeToString(&to, NULL), STATUS_SUCCESS);
        EXPECT_EQ(to.Length, 6);
        EXPECT_STATUS(RtlAppendUnicodeToString(&to, L"123456"), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(to.Length, 6);
    }
    RULE("RtlCopyString function", "copies as many bytes as fit") {
        char bytes[4];
        STRING target = { 0, sizeof(bytes), bytes };
        STRING source;
        RtlInitString(&source, "123456");
        RtlCopyString(&target, &source);
        EXPECT_EQ(target.Length, 4);
        EXPECT(bytes[3] == '4');
        RtlCopyString(&target, NULL);
        EXPECT_EQ(target.Length, 0);
    }
}

static void letter_case(void)
{
    WCHAR room[8];
    UNICODE_STRING to = { 0, sizeof(room), room };
    UNICODE_STRING mixed = RTL_CONSTANT_STRING(L"aB\u00e9z");

    RULE("RtlUpcaseUnicodeString function", "converts into the destination") {
        EXPECT_STATUS(RtlUpcaseUnicodeString(&to, &mixed, FALSE), STATUS_SUCCESS);
        EXPECT_EQ(to.Length, 8);
        EXPECT(room[0] == L'A' && room[1] == L'B' && room[2] == 0xC9 && room[3] == L'Z');
    }
    RULE("RtlUpcaseUnicodeString function", "a destination too small is STATUS_BUFFER_OVERFLOW") {
        to.MaximumLength = 6;
        EXPECT_STATUS(RtlUpcaseUnicodeString(&to, &mixed, FALSE), STATUS_BUFFER_OVERFLOW);
        to.MaximumLength = sizeof(room);
    }
    RULE("RtlUpcaseUnicodeString function", "allocates where it is asked to; RtlFreeUnicodeString releases it") {
        UNICODE_STRING made = { 0, 0, NULL };
        EXPECT_STATUS(RtlUpcaseUnicodeString(&made, &mixed, TRUE), STATUS_SUCCESS);
        EXPECT_EQ(made.Length, 8);
        EXPECT(made.Buffer && made.Buffer[3] == L'Z');
        RtlFreeUnicodeString(&made);
        EXPECT(made.Buffer == NULL);
        EXPECT_EQ(made.Length, 0);
    }
    RULE("RtlDowncaseUnicodeString function", "converts to lower case") {
        EXPECT_STATUS(RtlDowncaseUnicodeString(&to, &mixed, FALSE), STATUS_SUCCESS);
        EXPECT(room[0] == L'a' && room[1] == L'b' && room[2] == 0xE9);
    }
    RULE("RtlUpcaseUnicodeChar function", "one character") {
        EXPECT_EQ(RtlUpcaseUnicodeChar(L'q'), L'Q');
        EXPECT_EQ(RtlUpcaseUnicodeChar(L'Q'), L'Q');
        EXPECT_EQ(RtlUpcaseUnicodeChar(L'7'), L'7');
        EXPECT_EQ(RtlUpcaseUnicodeChar(0xFF), 0x178);
    }
    RULE("RtlDowncaseUnicodeChar function", "one character") {
        EXPECT_EQ(RtlDowncaseUnicodeChar(L'Q'), L'q');
        EXPECT_EQ(RtlDowncaseUnicodeChar(0xC4), 0xE4);
    }
    RULE("RtlUpperChar function", "one byte") {
        EXPECT_EQ(RtlUpperChar('q'), 'Q');
        EXPECT_EQ(RtlUpperChar('['), '[');
    }
    RULE("RtlUpperString function", "converts as many bytes as fit") {
        char bytes[4];
        STRING target = { 0, sizeof(bytes), bytes };
        STRING source;
        RtlInitString(&source, "ab1zz");
        RtlUpperString(&target, &source);
        EXPECT_EQ(target.Length, 4);
        EXPECT(bytes[0] == 'A' && bytes[2] == '1' && bytes[3] == 'Z');
    }
}

static void between_encodings(void)
{
    char bytes[8];
    WCHAR units[8];
    ANSI_STRING ansi = { 0, sizeof(bytes), bytes };
    UNICODE_STRING unicode = { 0, sizeof(units), units };
    UNICODE_STRING word = RTL_CONSTANT_STRING(L"word");
    UNICODE_STRING eight = RTL_CONSTANT_STRING(L"12345678");
    ANSI_STRING text;

    RULE("RtlUnicodeStringToAnsiString function", "converts and terminates; the length does not count the terminator") {
        EXPECT_STATUS(RtlUnicodeStringToAnsiString(&ansi, &word, FALSE), STATUS_SUCCESS);
        EXPECT_EQ(ansi.Length, 4);
        EXPECT(bytes[3] == 'd' && bytes[4] == 0);
    }
    RULE("RtlUnicodeStringToAnsiString function", "STATUS_BUFFER_OVERFLOW where text and terminator do not fit") {
        EXPECT_STATUS(RtlUnicodeStringToAnsiString(&ansi, &eight, FALSE), STATUS_BUFFER_OVERFLOW);
    }
    RULE("RtlUnicodeStringToAnsiString function", "allocates where it is asked to") {
        ANSI_STRING made = { 0, 0, NULL };
        EXPECT_STATUS(RtlUnicodeStringToAnsiString(&made, &word, TRUE), STATUS_SUCCESS);
        EXPECT_EQ(made.Length, 4);
        EXPECT_EQ(made.MaximumLength, 5);
        EXPECT(made.Buffer && made.Buffer[4] == 0);
        RtlFreeAnsiString(&made);
        EXPECT(made.Buffer == NULL);
    }
    RULE("RtlAnsiStringToUnicodeString function", "converts and terminates") {
        RtlInitAnsiString(&text, "hey");
        EXPECT_STATUS(RtlAnsiStringToUnicodeString(&unicode, &text, FALSE), STATUS_SUCCESS);
        EXPECT_EQ(unicode.Length, 6);
        EXPECT(units[2] == L'y' && units[3] == 0);
    }
    RULE("RtlAnsiStringToUnicodeString function", "STATUS_BUFFER_OVERFLOW where text and terminator do not fit") {
        RtlInitAnsiString(&text, "12345678");
        EXPECT_STATUS(RtlAnsiStringToUnicodeString(&unicode, &text, FALSE), STATUS_BUFFER_OVERFLOW);
    }
    RULE("RtlAnsiStringToUnicodeString function", "allocates where it is asked to") {
        UNICODE_STRING made = { 0, 0, NULL };
        RtlInitAnsiString(&text, "hey");
        EXPECT_STATUS(RtlAnsiStringToUnicodeString(&made, &text, TRUE), STATUS_SUCCESS);
        EXPECT_EQ(made.Length, 6);
        EXPECT_EQ(made.MaximumLength, 8);
        RtlFreeUnicodeString(&made);
    }
    RULE("RtlUnicodeStringToAnsiSize macro", "counts the terminator") {
        EXPECT_EQ(RtlxUnicodeStringToAnsiSize(&word), 5);
    }
    RULE("RtlAnsiStringToUnicodeSize macro", "counts the terminator") {
        RtlInitAnsiString(&text, "hey");
        EXPECT_EQ(RtlxAnsiStringToUnicodeSize(&text), 8);
    }
    RULE("RtlUnicodeToMultiByteN function", "converts at most so many bytes and says how many") {
        char few[3];
        ULONG written = 0;
        EXPECT_STATUS(RtlUnicodeToMultiByteN(few, sizeof(few), &written, (PWCH)L"abcdef", 12), STATUS_SUCCESS);
        EXPECT_EQ(written, 3);
        EXPECT(few[2] == 'c');
    }
    RULE("RtlMultiByteToUnicodeN function", "converts at most so many bytes and says how many") {
        ULONG written = 0;
        WCHAR few[2];
        EXPECT_STATUS(RtlMultiByteToUnicodeN(few, sizeof(few), &written, (PCHAR)"abcdef", 6), STATUS_SUCCESS);
        EXPECT_EQ(written, 4);
        EXPECT(few[1] == L'b');
    }
}

static void numbers(void)
{
    WCHAR units[16];
    UNICODE_STRING text = { 0, sizeof(units), units };
    ULONG value;

    RULE("RtlIntegerToUnicodeString function", "base 10 is the default") {
        EXPECT_STATUS(RtlIntegerToUnicodeString(4294967295u, 0, &text), STATUS_SUCCESS);
        EXPECT_EQ(text.Length, 20);
        EXPECT(units[0] == L'4' && units[9] == L'5' && units[10] == 0);
        EXPECT_STATUS(RtlIntegerToUnicodeString(0, 10, &text), STATUS_SUCCESS);
        EXPECT_EQ(text.Length, 2);
        EXPECT(units[0] == L'0');
    }
    RULE("RtlIntegerToUnicodeString function", "bases 2, 8 and 16; hexadecimal digits are upper case") {
        EXPECT_STATUS(RtlIntegerToUnicodeString(0xBEEF, 16, &text), STATUS_SUCCESS);
        EXPECT_EQ(text.Length, 8);
        EXPECT(units[0] == L'B' && units[3] == L'F');
        EXPECT_STATUS(RtlIntegerToUnicodeString(5, 2, &text), STATUS_SUCCESS);
        EXPECT(text.Length == 6 && units[0] == L'1' && units[1] == L'0');
        EXPECT_STATUS(RtlIntegerToUnicodeString(64, 8, &text), STATUS_SUCCESS);
        EXPECT(text.Length == 6 && units[0] == L'1' && units[2] == L'0');
    }
    RULE("RtlIntegerToUnicodeString function", "another base is STATUS_INVALID_PARAMETER") {
        EXPECT_STATUS(RtlIntegerToUnicodeString(1, 7, &text), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlIntegerToUnicodeString function", "a buffer too small is STATUS_BUFFER_OVERFLOW") {
        UNICODE_STRING small = { 0, 4, units };
        EXPECT_STATUS(RtlIntegerToUnicodeString(1234, 10, &small), STATUS_BUFFER_OVERFLOW);
    }
    RULE("RtlInt64ToUnicodeString function", "64 bits") {
        WCHAR wide[32];
        UNICODE_STRING number = { 0, sizeof(wide), wide };
        EXPECT_STATUS(RtlInt64ToUnicodeString(0x123456789ABCDEF0ULL, 16, &number), STATUS_SUCCESS);
        EXPECT_EQ(number.Length, 32);
        EXPECT(wide[0] == L'1' && wide[15] == L'0');
    }
    RULE("RtlUnicodeStringToInteger function", "base 10 by default; a sign is taken") {
        UNICODE_STRING number = RTL_CONSTANT_STRING(L"4711");
        UNICODE_STRING minus = RTL_CONSTANT_STRING(L"-3");
        EXPECT_STATUS(RtlUnicodeStringToInteger(&number, 0, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, 4711);
        EXPECT_STATUS(RtlUnicodeStringToInteger(&minus, 10, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, (ULONG)-3);
    }
    RULE("RtlUnicodeStringToInteger function", "base 0 takes the prefixes 0x, 0o and 0b") {
        UNICODE_STRING hex = RTL_CONSTANT_STRING(L"0x1f");
        UNICODE_STRING octal = RTL_CONSTANT_STRING(L"0o17");
        UNICODE_STRING binary = RTL_CONSTANT_STRING(L"0b101");
        EXPECT_STATUS(RtlUnicodeStringToInteger(&hex, 0, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, 0x1F);
        EXPECT_STATUS(RtlUnicodeStringToInteger(&octal, 0, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, 15);
        EXPECT_STATUS(RtlUnicodeStringToInteger(&binary, 0, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, 5);
    }
    RULE("RtlUnicodeStringToInteger function", "an invalid base is STATUS_INVALID_PARAMETER") {
        UNICODE_STRING number = RTL_CONSTANT_STRING(L"1");
        EXPECT_STATUS(RtlUnicodeStringToInteger(&number, 3, &value), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlUnicodeStringToInteger function", "stops at the first character that is no digit of the base") {
        UNICODE_STRING number = RTL_CONSTANT_STRING(L"12x9");
        EXPECT_STATUS(RtlUnicodeStringToInteger(&number, 10, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, 12);
    }
    RULE("RtlCharToInteger function", "base 0 takes the prefix; NUL ends the number") {
        EXPECT_STATUS(RtlCharToInteger("0x2A", 0, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, 42);
        EXPECT_STATUS(RtlCharToInteger("17", 8, &value), STATUS_SUCCESS);
        EXPECT_EQ(value, 15);
        EXPECT_STATUS(RtlCharToInteger("17", 9, &value), STATUS_INVALID_PARAMETER);
    }
}

static void guids(void)
{
    static const GUID guid = { 0x12345678, 0x9ABC, 0xDEF0, { 1, 2, 3, 4, 5, 6, 7, 8 } };
    UNICODE_STRING text = { 0, 0, NULL };
    GUID parsed;

    RULE("RtlStringFromGUID function", "braces, upper-case digits; RtlFreeUnicodeString releases it") {
        UNICODE_STRING expected = RTL_CONSTANT_STRING(L"{12345678-9ABC-DEF0-0102-030405060708}");
        EXPECT_STATUS(RtlStringFromGUID(&guid, &text), STATUS_SUCCESS);
        EXPECT_EQ(text.Length, 76);
        EXPECT(RtlEqualUnicodeString(&text, &expected, TRUE));
    }
    RULE("RtlGUIDFromString function", "is the inverse") {
        EXPECT_STATUS(RtlGUIDFromString(&text, &parsed), STATUS_SUCCESS);
        EXPECT(RtlCompareMemory(&parsed, &guid, sizeof(guid)) == sizeof(guid));
        RtlFreeUnicodeString(&text);
    }
    RULE("RtlGUIDFromString function", "a malformed string is STATUS_INVALID_PARAMETER") {
        UNICODE_STRING open = RTL_CONSTANT_STRING(L"{12345678-9ABC-DEF0-0102-030405060708");
        UNICODE_STRING digit = RTL_CONSTANT_STRING(L"{1234567G-9ABC-DEF0-0102-030405060708}");
        EXPECT_STATUS(RtlGUIDFromString(&open, &parsed), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(RtlGUIDFromString(&digit, &parsed), STATUS_INVALID_PARAMETER);
    }
}

static void hashes(void)
{
    UNICODE_STRING a = RTL_CONSTANT_STRING(L"Name");
    UNICODE_STRING b = RTL_CONSTANT_STRING(L"nAME");
    ULONG one, two;

    RULE("RtlHashUnicodeString function", "the same for strings that differ in case where case does not count") {
        EXPECT_STATUS(RtlHashUnicodeString(&a, TRUE, HASH_STRING_ALGORITHM_X65599, &one), STATUS_SUCCESS);
        EXPECT_STATUS(RtlHashUnicodeString(&b, TRUE, HASH_STRING_ALGORITHM_X65599, &two), STATUS_SUCCESS);
        EXPECT_EQ(one, two);
        EXPECT_STATUS(RtlHashUnicodeString(&a, FALSE, HASH_STRING_ALGORITHM_X65599, &one), STATUS_SUCCESS);
        EXPECT_STATUS(RtlHashUnicodeString(&b, FALSE, HASH_STRING_ALGORITHM_X65599, &two), STATUS_SUCCESS);
        EXPECT(one != two);
    }
    RULE("RtlHashUnicodeString function", "an unknown algorithm is STATUS_INVALID_PARAMETER") {
        EXPECT_STATUS(RtlHashUnicodeString(&a, TRUE, 17, &one), STATUS_INVALID_PARAMETER);
        EXPECT_STATUS(RtlHashUnicodeString(&a, TRUE, HASH_STRING_ALGORITHM_DEFAULT, NULL), STATUS_INVALID_PARAMETER);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    counted();
    comparison();
    copying();
    letter_case();
    between_encodings();
    numbers();
    guids();
    hashes();
}

SUITE("Rtl strings")
