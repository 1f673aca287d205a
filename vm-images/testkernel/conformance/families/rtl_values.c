/* Bits, UTF-8, versions, seconds, and ranges in resource descriptors. */
#include <check.h>

NTSYSAPI ULONG NTAPI RtlNumberOfSetBitsUlongPtr(ULONG_PTR);
NTSYSAPI NTSTATUS NTAPI RtlUTF8ToUnicodeN(PWSTR, ULONG, PULONG, PCCH, ULONG);
NTSYSAPI NTSTATUS NTAPI RtlUnicodeToUTF8N(PCHAR, ULONG, PULONG, PCWCH, ULONG);
NTSYSAPI LONG NTAPI RtlCompareUnicodeStrings(PCWCH, SIZE_T, PCWCH, SIZE_T, BOOLEAN);
/* The header has a library's twin instead, for systems before Vista. */
#undef RtlIsNtDdiVersionAvailable
NTSYSAPI BOOLEAN NTAPI RtlIsNtDdiVersionAvailable(ULONG);
NTSYSAPI BOOLEAN NTAPI RtlGetProductInfo(ULONG, ULONG, ULONG, ULONG, PULONG);
NTSYSAPI NTSTATUS NTAPI RtlCmEncodeMemIoResource(PCM_PARTIAL_RESOURCE_DESCRIPTOR, UCHAR, ULONGLONG, ULONGLONG);
NTSYSAPI ULONGLONG NTAPI RtlCmDecodeMemIoResource(PCM_PARTIAL_RESOURCE_DESCRIPTOR, PULONGLONG);
NTSYSAPI NTSTATUS NTAPI RtlIoEncodeMemIoResource(PIO_RESOURCE_DESCRIPTOR, UCHAR, ULONGLONG, ULONGLONG, ULONGLONG, ULONGLONG);
NTSYSAPI ULONGLONG NTAPI RtlIoDecodeMemIoResource(PIO_RESOURCE_DESCRIPTOR, PULONGLONG, PULONGLONG, PULONGLONG);
NTSYSAPI NTSTATUS NTAPI RtlFindClosestEncodableLength(ULONGLONG, PULONGLONG);

#ifndef STATUS_SOME_NOT_MAPPED
#define STATUS_SOME_NOT_MAPPED ((NTSTATUS)0x00000107)
#endif

static void bits(void)
{
    /* Clear: 0 to 3, 8 to 15, 35 to 37, 39. */
    ULONG words[2] = { 0xFFFF00F0, 0x00000047 };
    RTL_BITMAP_RUN runs[4];
    RTL_BITMAP map;
    ULONG start;

    RtlInitializeBitMap(&map, words, 40);
    RULE("RtlFindClearRuns function", "the first runs, in order, as many as there is room for") {
        EXPECT_EQ(RtlFindClearRuns(&map, runs, 2, FALSE), 2);
        EXPECT(runs[0].StartingIndex == 0 && runs[0].NumberOfBits == 4);
        EXPECT(runs[1].StartingIndex == 8 && runs[1].NumberOfBits == 8);
    }
    RULE("RtlFindClearRuns function", "LocateLongestRuns: the longest, those first") {
        EXPECT_EQ(RtlFindClearRuns(&map, runs, 2, TRUE), 2);
        EXPECT(runs[0].StartingIndex == 8 && runs[0].NumberOfBits == 8);
        EXPECT(runs[1].StartingIndex == 0 && runs[1].NumberOfBits == 4);
        EXPECT_EQ(RtlFindClearRuns(&map, runs, 4, TRUE), 4);
    }
    RULE("RtlFindLongestRunClear function", "its length, and where it begins") {
        EXPECT_EQ(RtlFindLongestRunClear(&map, &start), 8);
        EXPECT_EQ(start, 8);
    }
    RULE("RtlFindFirstRunClear function", "the first") {
        EXPECT_EQ(RtlFindFirstRunClear(&map, &start), 4);
        EXPECT_EQ(start, 0);
    }
    RULE("RtlFindNextForwardRunClear function", "from a bit on; 0 where there is none") {
        EXPECT_EQ(RtlFindNextForwardRunClear(&map, 16, &start), 3);
        EXPECT_EQ(start, 35);
        EXPECT_EQ(RtlFindNextForwardRunClear(&map, 39, &start), 1);
        EXPECT_EQ(RtlFindNextForwardRunClear(&map, 40, &start), 0);
    }
    RULE("RtlFindLastBackwardRunClear function", "from a bit backwards; 0 where there is none") {
        EXPECT_EQ(RtlFindLastBackwardRunClear(&map, 34, &start), 8);
        EXPECT_EQ(start, 8);
        EXPECT_EQ(RtlFindLastBackwardRunClear(&map, 36, &start), 2);
        EXPECT_EQ(start, 35);
        RtlSetAllBits(&map);
        EXPECT_EQ(RtlFindLastBackwardRunClear(&map, 39, &start), 0);
        EXPECT_EQ(RtlFindLongestRunClear(&map, &start), 0);
    }
    RULE("RtlFindMostSignificantBit function", "from 0, and -1 where none is set") {
        EXPECT(RtlFindMostSignificantBit(0) == -1);
        EXPECT_EQ(RtlFindMostSignificantBit(1), 0);
        EXPECT_EQ(RtlFindMostSignificantBit(0x8000000000000001ULL), 63);
    }
    RULE("RtlFindLeastSignificantBit function", "likewise") {
        EXPECT(RtlFindLeastSignificantBit(0) == -1);
        EXPECT_EQ(RtlFindLeastSignificantBit(0x8000000000000000ULL), 63);
        EXPECT_EQ(RtlFindLeastSignificantBit(0x50), 4);
    }
    RULE("RtlNumberOfSetBitsUlongPtr function", "of 64 bits") {
        EXPECT_EQ(RtlNumberOfSetBitsUlongPtr(0x8000000000000007ULL), 4);
    }
}

static void characters(void)
{
    static const char text[] = "a\xC3\xA4\xE2\x82\xAC";
    static const WCHAR wide[] = { 'a', 0xE4, 0x20AC };
    WCHAR units[8];
    char bytes[16];
    ULONG length = 0;

    RULE("RtlUTF8ToUnicodeN function", "without a destination only the length is told") {
        EXPECT_STATUS(RtlUTF8ToUnicodeN(NULL, 0, &length, text, 6), STATUS_SUCCESS);
        EXPECT_EQ(length, sizeof(wide));
    }
    RULE("RtlUTF8ToUnicodeN function", "character by character") {
        EXPECT_STATUS(RtlUTF8ToUnicodeN(units, sizeof(units), &length, text, 6), STATUS_SUCCESS);
        EXPECT(length == sizeof(wide) && RtlCompareMemory(units, wide, length) == length);
    }
    RULE("RtlUTF8ToUnicodeN function", "STATUS_BUFFER_TOO_SMALL where they do not all fit") {
        EXPECT_STATUS(RtlUTF8ToUnicodeN(units, 4, &length, text, 6), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(length, 4);
    }
    RULE("RtlUTF8ToUnicodeN function", "STATUS_SOME_NOT_MAPPED for bytes that are no character, which become U+FFFD") {
        EXPECT_STATUS(RtlUTF8ToUnicodeN(units, sizeof(units), &length, "a\xFF", 2), STATUS_SOME_NOT_MAPPED);
        EXPECT(length == 4 && units[1] == 0xFFFD);
    }
    RULE("RtlUTF8ToUnicodeN function", "STATUS_INVALID_PARAMETER_4 without a source") {
        EXPECT_STATUS(RtlUTF8ToUnicodeN(units, sizeof(units), &length, NULL, 0), STATUS_INVALID_PARAMETER_4);
    }
    RULE("RtlUnicodeToUTF8N function", "and back") {
        EXPECT_STATUS(RtlUnicodeToUTF8N(bytes, sizeof(bytes), &length, wide, sizeof(wide)), STATUS_SUCCESS);
        EXPECT(length == 6 && RtlCompareMemory(bytes, text, 6) == 6);
        EXPECT_STATUS(RtlUnicodeToUTF8N(bytes, 2, &length, wide, sizeof(wide)), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(length, 1);
    }
    RULE("RtlUnicodeToUTF8N function", "STATUS_INVALID_PARAMETER_5 for half a unit") {
        EXPECT_STATUS(RtlUnicodeToUTF8N(bytes, sizeof(bytes), &length, wide, 3), STATUS_INVALID_PARAMETER_5);
    }
    RULE("RtlCompareUnicodeStrings function", "of so many characters, with or without regard to case") {
        EXPECT_EQ(RtlCompareUnicodeStrings(L"abc", 3, L"ABC", 3, TRUE), 0);
        EXPECT(RtlCompareUnicodeStrings(L"abc", 3, L"ABC", 3, FALSE) > 0);
        EXPECT(RtlCompareUnicodeStrings(L"abc", 2, L"abc", 3, FALSE) < 0);
    }
}

static BOOLEAN is(ULONG major, ULONG minor, ULONG build, ULONG types, UCHAR condition)
{
    RTL_OSVERSIONINFOEXW wanted = { .dwOSVersionInfoSize = sizeof(wanted), .dwMajorVersion = major,
                                    .dwMinorVersion = minor, .dwBuildNumber = build };
    ULONGLONG mask = 0;
    ULONG bit;
    for (bit = 1; bit <= types; bit <<= 1)
        if (types & bit)
            VER_SET_CONDITION(mask, bit, condition);
    return RtlVerifyVersionInfo(&wanted, types, mask) == STATUS_SUCCESS;
}

static void versions(void)
{
    RTL_OSVERSIONINFOEXW own = { .dwOSVersionInfoSize = sizeof(own) };
    ULONG product = 99;

    RtlGetVersion((PRTL_OSVERSIONINFOW)&own);
    RULE("RtlVerifyVersionInfo function", "STATUS_SUCCESS where the version is what is asked for") {
        EXPECT(is(own.dwMajorVersion, own.dwMinorVersion, 0, VER_MAJORVERSION | VER_MINORVERSION, VER_EQUAL));
        EXPECT(is(own.dwMajorVersion, own.dwMinorVersion, 0, VER_MAJORVERSION | VER_MINORVERSION, VER_GREATER_EQUAL));
        EXPECT(is(0, 0, own.dwBuildNumber, VER_BUILDNUMBER, VER_EQUAL));
    }
    RULE("RtlVerifyVersionInfo function", "major and minor version are compared as one number") {
        EXPECT(is(own.dwMajorVersion - 1, own.dwMinorVersion + 5, 0, VER_MAJORVERSION | VER_MINORVERSION, VER_GREATER));
        EXPECT(!is(own.dwMajorVersion, own.dwMinorVersion + 1, 0, VER_MAJORVERSION | VER_MINORVERSION, VER_GREATER_EQUAL));
    }
    RULE("RtlVerifyVersionInfo function", "STATUS_REVISION_MISMATCH where it is not") {
        RTL_OSVERSIONINFOEXW wanted = { .dwMajorVersion = own.dwMajorVersion + 1 };
        ULONGLONG mask = 0;
        VER_SET_CONDITION(mask, VER_MAJORVERSION, VER_EQUAL);
        EXPECT_STATUS(RtlVerifyVersionInfo(&wanted, VER_MAJORVERSION, mask), STATUS_REVISION_MISMATCH);
        EXPECT(!is(0, 0, own.dwBuildNumber + 1, VER_BUILDNUMBER, VER_GREATER_EQUAL));
    }
    RULE("RtlVerifyVersionInfo function", "STATUS_INVALID_PARAMETER where nothing is asked for") {
        EXPECT_STATUS(RtlVerifyVersionInfo(&own, 0, 1), STATUS_INVALID_PARAMETER);
    }
    RULE("RtlIsNtDdiVersionAvailable function", "TRUE for this version and older ones, FALSE with a service pack in it") {
        EXPECT(RtlIsNtDdiVersionAvailable(0x06010000));
        EXPECT(!RtlIsNtDdiVersionAvailable(0x06010100));
        EXPECT(!RtlIsNtDdiVersionAvailable(0xFF000000));
    }
    RULE("RtlGetProductInfo function", "TRUE with the product, for who knows Windows since 6.0") {
        EXPECT(RtlGetProductInfo(6, 0, 0, 0, &product));
        EXPECT(product != 0 && product != 99);
        EXPECT(!RtlGetProductInfo(6, 0, 0, 0, NULL));
    }
}

static void seconds(void)
{
    TIME_FIELDS fields = { 2001, 9, 9, 1, 46, 40, 0, 0 };
    LARGE_INTEGER time;
    ULONG count = 0;

    RtlTimeFieldsToTime(&fields, &time);
    RULE("RtlTimeToSecondsSince1970 function", "seconds since the beginning of 1970") {
        EXPECT(RtlTimeToSecondsSince1970(&time, &count));
        EXPECT_EQ(count, 1000000000);
    }
    RULE("RtlSecondsSince1970ToTime function", "and back") {
        LARGE_INTEGER again;
        RtlSecondsSince1970ToTime(count, &again);
        EXPECT_EQ(again.QuadPart, time.QuadPart);
    }
    RULE("RtlTimeToSecondsSince1980 function", "3652 days fewer") {
        LARGE_INTEGER again;
        ULONG since_1980 = 0;
        EXPECT(RtlTimeToSecondsSince1980(&time, &since_1980));
        EXPECT_EQ(since_1980, 1000000000 - 3652 * 86400);
        RtlSecondsSince1980ToTime(since_1980, &again);
        EXPECT_EQ(again.QuadPart, time.QuadPart);
    }
    RULE("RtlTimeToSecondsSince1970 function", "FALSE for what 32 bits cannot hold") {
        time.QuadPart = 0;
        EXPECT(!RtlTimeToSecondsSince1970(&time, &count));
        EXPECT_EQ(count, 1000000000);
    }
}

static void ranges(void)
{
    CM_PARTIAL_RESOURCE_DESCRIPTOR given = { .Type = 0 };
    IO_RESOURCE_DESCRIPTOR wanted = { .Type = 0 };
    ULONGLONG number, least, most;

    RULE("RtlCmEncodeMemIoResource function", "a length of 32 bits is kept as it is") {
        EXPECT_STATUS(RtlCmEncodeMemIoResource(&given, CmResourceTypeMemory, 0x1000, 0xE0000000), STATUS_SUCCESS);
        EXPECT_EQ(given.Type, CmResourceTypeMemory);
        EXPECT_EQ(given.u.Memory.Length, 0x1000);
        EXPECT_EQ(given.u.Memory.Start.QuadPart, 0xE0000000);
    }
    RULE("RtlCmEncodeMemIoResource function", "a longer one in units of 256 bytes, 64 KiB or 4 GiB, as large memory") {
        EXPECT_STATUS(RtlCmEncodeMemIoResource(&given, CmResourceTypeMemory, 0x200000000ULL, 0), STATUS_SUCCESS);
        EXPECT_EQ(given.Type, CmResourceTypeMemoryLarge);
        EXPECT(given.Flags & CM_RESOURCE_MEMORY_LARGE_40);
        EXPECT_EQ(given.u.Memory.Length, 0x2000000);
    }
    RULE("RtlCmDecodeMemIoResource function", "the length, and where it begins") {
        EXPECT_EQ(RtlCmDecodeMemIoResource(&given, &number), 0x200000000ULL);
        EXPECT_EQ(number, 0);
    }
    RULE("RtlIoEncodeMemIoResource function", "likewise what a device asks for") {
        EXPECT_STATUS(RtlIoEncodeMemIoResource(&wanted, CmResourceTypeMemory, 0x2000, 0x1000, 0x100000, 0xFFFFFFFF),
                      STATUS_SUCCESS);
        EXPECT(wanted.Type == CmResourceTypeMemory && wanted.u.Memory.Length == 0x2000);
        EXPECT_EQ(RtlIoDecodeMemIoResource(&wanted, &number, &least, &most), 0x2000);
        EXPECT(number == 0x1000 && least == 0x100000 && most == 0xFFFFFFFF);
    }
    RULE("RtlFindClosestEncodableLength function", "the length itself, or the next that can be kept") {
        EXPECT_STATUS(RtlFindClosestEncodableLength(0x12345, &number), STATUS_SUCCESS);
        EXPECT_EQ(number, 0x12345);
        EXPECT_STATUS(RtlFindClosestEncodableLength(0x100000001ULL, &number), STATUS_SUCCESS);
        EXPECT_EQ(number, 0x100000100ULL);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    bits();
    characters();
    versions();
    seconds();
    ranges();
    (void)driver;
    (void)path;
}

SUITE("Rtl values")
