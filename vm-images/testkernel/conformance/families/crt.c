/* The C library that ntoskrnl.exe has: text with a size, numbers in text, what programs expect of it by its own pages. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_ERROR_NUMBER 0
#define INVALID 22
#define RANGE 34
#define TRUNCATED 80
#define ALL_THAT_FITS ((size_t)-1)

static int same(const char *one, const char *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

static int same_wide(const wchar_t *one, const wchar_t *other)
{
    while (*one && *one == *other)
        one++, other++;
    return *one == *other;
}

static int formatted(char *to, size_t size, const char *format, ...)
{
    va_list arguments;
    int result;
    va_start(arguments, format);
    result = vsprintf_s(to, size, format, arguments);
    va_end(arguments);
    return result;
}

static void copying(void)
{
    char text[8];
    wchar_t wide[8];

    RULE("strcpy_s, wcscpy_s, _mbscpy_s, _mbscpy_s_l", "copies what fits with its terminator; what does not leaves an empty text, ERANGE") {
        EXPECT_EQ(strcpy_s(text, 8, "seven.."), NO_ERROR_NUMBER);
        EXPECT(same(text, "seven.."));
        EXPECT_EQ(strcpy_s(text, 8, "eight..."), RANGE);
        EXPECT_EQ(text[0], 0);
        EXPECT_EQ(wcscpy_s(wide, 4, L"abc"), NO_ERROR_NUMBER);
        EXPECT(same_wide(wide, L"abc"));
        EXPECT_EQ(wcscpy_s(wide, 3, L"abc"), RANGE);
        EXPECT_EQ(wide[0], 0);
    }

    RULE("strcpy_s, wcscpy_s, _mbscpy_s, _mbscpy_s_l", "EINVAL for no destination, and for no source, which leaves an empty text") {
        text[0] = 'x';
        EXPECT_EQ(strcpy_s(NULL, 8, "a"), INVALID);
        EXPECT_EQ(strcpy_s(text, 0, "a"), INVALID);
        EXPECT_EQ(text[0], 'x');
        EXPECT_EQ(strcpy_s(text, 8, NULL), INVALID);
        EXPECT_EQ(text[0], 0);
    }

    RULE("strncpy_s, _strncpy_s_l, wcsncpy_s, _wcsncpy_s_l", "copies the first D characters and a terminator, where D is the lesser of count and length") {
        EXPECT_EQ(strncpy_s(text, 5, "abcdefgh", 3), NO_ERROR_NUMBER);
        EXPECT(same(text, "abc"));
        EXPECT_EQ(strncpy_s(text, 5, "abcd", 100), NO_ERROR_NUMBER);
        EXPECT(same(text, "abcd"));
        EXPECT_EQ(strncpy_s(text, 5, "abcdefgh", 5), RANGE);
        EXPECT_EQ(text[0], 0);
        EXPECT_EQ(wcsncpy_s(wide, 4, L"abcdef", 2), NO_ERROR_NUMBER);
        EXPECT(same_wide(wide, L"ab"));
    }

    RULE("strncpy_s, _strncpy_s_l, wcsncpy_s, _wcsncpy_s_l", "with _TRUNCATE as much as fits, and STRUNCATE where that was not all") {
        EXPECT_EQ(strncpy_s(text, 5, "abcdefgh", ALL_THAT_FITS), TRUNCATED);
        EXPECT(same(text, "abcd"));
        EXPECT_EQ(strncpy_s(text, 5, "abc", ALL_THAT_FITS), NO_ERROR_NUMBER);
        EXPECT(same(text, "abc"));
    }

    RULE("strcat_s, wcscat_s, _mbscat_s, _mbscat_s_l", "appends what fits; what does not empties the text, ERANGE; EINVAL where it does not end") {
        strcpy_s(text, 8, "abc");
        EXPECT_EQ(strcat_s(text, 8, "defg"), NO_ERROR_NUMBER);
        EXPECT(same(text, "abcdefg"));
        EXPECT_EQ(strcat_s(text, 8, "h"), RANGE);
        EXPECT_EQ(text[0], 0);
        RtlFillMemory(text, 8, 'x');
        EXPECT_EQ(strcat_s(text, 8, "a"), INVALID);
        EXPECT_EQ(text[0], 0);
        wcscpy_s(wide, 8, L"ab");
        EXPECT_EQ(wcscat_s(wide, 8, L"cd"), NO_ERROR_NUMBER);
        EXPECT(same_wide(wide, L"abcd"));
    }

    RULE("strncat_s, _strncat_s_l, wcsncat_s, _wcsncat_s_l", "appends the first characters; with _TRUNCATE as much as fits") {
        strcpy_s(text, 8, "abc");
        EXPECT_EQ(strncat_s(text, 8, "defghij", 2), NO_ERROR_NUMBER);
        EXPECT(same(text, "abcde"));
        EXPECT_EQ(strncat_s(text, 8, "fghij", ALL_THAT_FITS), TRUNCATED);
        EXPECT(same(text, "abcdefg"));
        wcscpy_s(wide, 8, L"ab");
        EXPECT_EQ(wcsncat_s(wide, 4, L"cdef", 2), RANGE);
        EXPECT_EQ(wide[0], 0);
    }

    RULE("memcpy_s, wmemcpy_s", "what does not fit zeroes the destination, ERANGE; no bytes are always copied") {
        UCHAR from[4] = {1, 2, 3, 4}, to[4] = {9, 9, 9, 9};
        EXPECT_EQ(memcpy_s(to, 4, from, 4), NO_ERROR_NUMBER);
        EXPECT_EQ(to[3], 4);
        EXPECT_EQ(memcpy_s(to, 3, from, 4), RANGE);
        EXPECT(bytes_are(to, 0, 3) && to[3] == 4);
        EXPECT_EQ(memcpy_s(NULL, 0, NULL, 0), NO_ERROR_NUMBER);
        EXPECT_EQ(memcpy_s(NULL, 4, from, 4), INVALID);
        to[0] = 7;
        EXPECT_EQ(memcpy_s(to, 4, NULL, 1), INVALID);
        EXPECT_EQ(to[0], 0);
    }

    RULE("memmove_s, wmemmove_s", "overlapping memory is moved as if by way of another place") {
        UCHAR bytes[6] = {1, 2, 3, 4, 5, 6};
        EXPECT_EQ(memmove_s(bytes + 1, 5, bytes, 5), NO_ERROR_NUMBER);
        EXPECT(bytes[1] == 1 && bytes[2] == 2 && bytes[5] == 5);
        EXPECT_EQ(memmove_s(bytes, 2, bytes + 3, 3), RANGE);
        EXPECT_EQ(bytes[0], 1);
    }
}

static void formatting(void)
{
    char text[8];
    wchar_t wide[8];

    RULE("sprintf_s, _sprintf_s_l, swprintf_s, _swprintf_s_l", "gives the number of characters; what does not fit leaves an empty text and -1") {
        EXPECT_EQ(sprintf_s(text, 8, "%d,%s", 42, "abc"), 6);
        EXPECT(same(text, "42,abc"));
        EXPECT_EQ(sprintf_s(text, 8, "%s%s%d%d", "ab", "cd", 5, 678), -1);
        EXPECT_EQ(text[0], 0);
        EXPECT_EQ(swprintf_s(wide, 8, L"%x:%c", 0xFE, L'z'), 4);
        EXPECT(same_wide(wide, L"fe:z"));
    }

    RULE("vsprintf_s, _vsprintf_s_l, vswprintf_s, _vswprintf_s_l", "does the same with a list of arguments") {
        EXPECT_EQ(formatted(text, 8, "%c%c%c%d", 'a', 'b', 'c', -12), 6);
        EXPECT(same(text, "abc-12"));
        EXPECT_EQ(formatted(text, 6, "%c%c%c%d", 'a', 'b', 'c', -12), -1);
        EXPECT_EQ(text[0], 0);
    }

    RULE("_snprintf_s, _snprintf_s_l, _snwprintf_s, _snwprintf_s_l", "a count below the size cuts the text and gives -1") {
        EXPECT_EQ(_snprintf_s(text, 8, 3, "%d", 12345), -1);
        EXPECT(same(text, "123"));
        EXPECT_EQ(_snprintf_s(text, 8, 5, "%d-%d", 12, 34), 5);
        EXPECT(same(text, "12-34"));
    }

    RULE("_snprintf_s, _snprintf_s_l, _snwprintf_s, _snwprintf_s_l", "with _TRUNCATE as much as fits; a count that does not fit leaves an empty text") {
        EXPECT_EQ(_snprintf_s(text, 4, ALL_THAT_FITS, "%d%d%d", 12, 34, 56), -1);
        EXPECT(same(text, "123"));
        EXPECT_EQ(_snprintf_s(text, 4, 6, "%d%d%d", 12, 34, 56), -1);
        EXPECT_EQ(text[0], 0);
        EXPECT_EQ(_snwprintf_s(wide, 8, ALL_THAT_FITS, L"%d%d%d", 12, 34, 56), 6);
        EXPECT(same_wide(wide, L"123456"));
    }
}

static void numbers(void)
{
    char text[12];
    wchar_t wide[12];

    RULE("_itoa_s, _ltoa_s, _ultoa_s, _i64toa_s, _ui64toa_s, _itow_s, _ltow_s, _ultow_s, _i64tow_s, _ui64tow_s",
         "a sign in base 10 only; ERANGE and an empty text where it does not fit, EINVAL for a base that there is none of") {
        EXPECT_EQ(_itoa_s(-2147483647 - 1, text, 12, 10), NO_ERROR_NUMBER);
        EXPECT(same(text, "-2147483648"));
        EXPECT_EQ(_itoa_s(-1, text, 12, 16), NO_ERROR_NUMBER);
        EXPECT(same(text, "ffffffff"));
        EXPECT_EQ(_itoa_s(12345, text, 5, 10), RANGE);
        EXPECT_EQ(text[0], 0);
        EXPECT_EQ(_itoa_s(1, text, 12, 37), INVALID);
        EXPECT_EQ(_itow_s(35, wide, 12, 36), NO_ERROR_NUMBER);
        EXPECT(same_wide(wide, L"z"));
        EXPECT_EQ(_ui64toa_s(0xFEDCBA987ULL, text, 12, 16), NO_ERROR_NUMBER);
        EXPECT(same(text, "fedcba987"));
    }

    RULE("strtoul, _strtoul_l, wcstoul, _wcstoul_l", "base 0 goes by the prefix; the end is where reading stopped; too large is all ones") {
        wchar_t *end;
        const wchar_t *from = L"  0x1Fg";
        EXPECT_EQ(wcstoul(from, &end, 0), 0x1F);
        EXPECT(end == from + 6);
        EXPECT_EQ(wcstoul(L"017", NULL, 0), 15);
        EXPECT_EQ(wcstoul(L"17", NULL, 0), 17);
        EXPECT_EQ(wcstoul(L"4294967296", &end, 10), 0xFFFFFFFF);
        from = L"none";
        EXPECT_EQ(wcstoul(from, &end, 10), 0);
        EXPECT(end == from);
        EXPECT_EQ(wcstoul(L"-1", NULL, 10), 0xFFFFFFFF);
    }

    RULE("_strtoui64, _wcstoui64, _strtoui64_l, _wcstoui64_l", "reads 64 bits") {
        EXPECT_EQ(_strtoui64("18446744073709551615", NULL, 10), ~0ULL);
        EXPECT_EQ(_strtoui64("123456789abcdef0", NULL, 16), 0x123456789ABCDEF0ULL);
    }

    RULE("atoi, _atoi_l, _wtoi, _wtoi_l", "blanks, a sign and digits") {
        EXPECT_EQ(_wtoi(L" \t-42abc"), -42);
        EXPECT_EQ(_wtoi(L"+7"), 7);
        EXPECT_EQ(_wtoi(L"abc"), 0);
    }
}

static void text_tools(void)
{
    char text[16];
    wchar_t wide[16];
    char *context = NULL, *part;

    RULE("strtok_s, _strtok_s_l, wcstok_s, _wcstok_s_l, _mbstok_s, _mbstok_s_l", "gives one part after the other, and NULL after the last") {
        strcpy_s(text, 16, ",,a,bc,;d");
        part = strtok_s(text, ",;", &context);
        EXPECT(part && same(part, "a"));
        part = strtok_s(NULL, ",;", &context);
        EXPECT(part && same(part, "bc"));
        part = strtok_s(NULL, ",;", &context);
        EXPECT(part && same(part, "d"));
        EXPECT(strtok_s(NULL, ",;", &context) == NULL);
        EXPECT(strtok_s(NULL, ",;", &context) == NULL);
    }

    RULE("_strrev, _wcsrev, _mbsrev, _mbsrev_l", "turns the text round in place") {
        strcpy_s(text, 16, "abcde");
        EXPECT(_strrev(text) == text && same(text, "edcba"));
    }

    RULE("_strset, _strset_l, _wcsset, _wcsset_l, _mbsset, _mbsset_l", "sets every character but the terminator") {
        strcpy_s(text, 16, "abcde");
        EXPECT(_strset(text, '*') == text && same(text, "*****"));
        EXPECT_EQ(_strset_s(text, 16, '-'), NO_ERROR_NUMBER);
        EXPECT(same(text, "-----"));
        EXPECT_EQ(_strset_s(text, 5, '-'), INVALID);
    }

    RULE("mbstowcs, _mbstowcs_l", "converts up to a count; without a buffer it tells how much there is") {
        EXPECT_EQ(mbstowcs(wide, "abc", 16), 3);
        EXPECT(same_wide(wide, L"abc"));
        EXPECT_EQ(mbstowcs(NULL, "abcdef", 0), 6);
        wide[2] = L'!';
        EXPECT_EQ(mbstowcs(wide, "xyz", 2), 2);
        EXPECT_EQ(wide[2], L'!');
    }

    RULE("wcstombs, _wcstombs_l", "converts back") {
        EXPECT_EQ(wcstombs(text, L"hello", 16), 5);
        EXPECT(same(text, "hello"));
        EXPECT_EQ(wcstombs(NULL, L"hello", 0), 5);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    copying();
    formatting();
    numbers();
    text_tools();
}

SUITE("C library")
