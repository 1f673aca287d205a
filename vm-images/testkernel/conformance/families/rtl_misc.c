// build: -fno-builtin -Wno-format
/* Bitmaps, dates, versions, registry values, lists, numbers, the C library's text and the safe printf family. */
#include <check.h>
#include <stdarg.h>
#include <string.h>

/* Not from stdio.h, whose inline versions need a C runtime. */
int __cdecl sprintf(char *to, const char *format, ...);
int __cdecl _vsnprintf(char *to, size_t room, const char *format, va_list list);
int __cdecl _snwprintf(WCHAR *to, size_t room, const WCHAR *format, ...);

static void bitmaps(void)
{
    ULONG words[3];
    RTL_BITMAP map;

    RULE("RtlInitializeBitMap function", "takes the buffer and its size in bits as they are") {
        RtlFillMemory(words, sizeof(words), 0);
        RtlInitializeBitMap(&map, words, 70);
        EXPECT_EQ(map.SizeOfBitMap, 70);
        EXPECT(map.Buffer == words);
    }
    RULE("RtlSetAllBits function", "every bit of the map") {
        RtlSetAllBits(&map);
        EXPECT_EQ(RtlNumberOfSetBits(&map), 70);
        EXPECT_EQ(RtlNumberOfClearBits(&map), 0);
    }
    RULE("RtlClearAllBits function", "every bit of the map") {
        RtlClearAllBits(&map);
        EXPECT_EQ(RtlNumberOfSetBits(&map), 0);
        EXPECT_EQ(RtlNumberOfClearBits(&map), 70);
    }
    RULE("RtlSetBits function", "a run of bits across words") {
        RtlSetBits(&map, 30, 5);
        EXPECT_EQ(RtlNumberOfSetBits(&map), 5);
        EXPECT_EQ(words[0], 0xC0000000);
        EXPECT_EQ(words[1], 7);
    }
    RULE("RtlAreBitsSet function", "TRUE where the whole run is set, FALSE for a run of none") {
        EXPECT(RtlAreBitsSet(&map, 30, 5));
        EXPECT(!RtlAreBitsSet(&map, 30, 6));
        EXPECT(!RtlAreBitsSet(&map, 29, 2));
        EXPECT(!RtlAreBitsSet(&map, 30, 0));
    }
    RULE("RtlAreBitsClear function", "TRUE where the whole run is clear") {
        EXPECT(RtlAreBitsClear(&map, 0, 30));
        EXPECT(!RtlAreBitsClear(&map, 0, 31));
        EXPECT(!RtlAreBitsClear(&map, 60, 11));
    }
    RULE("RtlTestBit function", "the bit's state") {
        EXPECT(RtlTestBit(&map, 30));
        EXPECT(!RtlTestBit(&map, 35));
    }
    RULE("RtlClearBits function", "clears a run") {
        RtlClearBits(&map, 31, 2);
        EXPECT_EQ(RtlNumberOfSetBits(&map), 3);
    }
    RULE("RtlFindClearBits function", "the first run that is long enough at or after the hint, else from the beginning") {
        RtlClearAllBits(&map);
        RtlSetBits(&map, 0, 10);
        EXPECT_EQ(RtlFindClearBits(&map, 5, 0), 10);
        EXPECT_EQ(RtlFindClearBits(&map, 5, 20), 20);
        RtlSetBits(&map, 15, 55);
        EXPECT_EQ(RtlFindClearBits(&map, 5, 40), 10);
        EXPECT_EQ(RtlFindClearBits(&map, 6, 0), 0xFFFFFFFF);
    }
    RULE("RtlFindClearBitsAndSet function", "finds and sets") {
        EXPECT_EQ(RtlFindClearBitsAndSet(&map, 5, 0), 10);
        EXPECT_EQ(RtlNumberOfClearBits(&map), 0);
        EXPECT_EQ(RtlFindClearBitsAndSet(&map, 1, 0), 0xFFFFFFFF);
    }
    RULE("RtlFindSetBitsAndClear function", "finds and clears") {
        EXPECT_EQ(RtlFindSetBitsAndClear(&map, 3, 2), 2);
        EXPECT(RtlAreBitsClear(&map, 2, 3));
    }
}

static void dates(void)
{
    TIME_FIELDS fields = { 2024, 2, 29, 23, 59, 58, 7, 0 }, back;
    LARGE_INTEGER time;

    RULE("RtlTimeFieldsToTime function", "100 ns since 1601, leap days counted") {
        EXPECT(RtlTimeFieldsToTime(&fields, &time));
        EXPECT_EQ(time.QuadPart, 133537247980070000LL);
    }
    RULE("RtlTimeToTimeFields function", "is the inverse, and gives the day of the week") {
        RtlTimeToTimeFields(&time, &back);
        EXPECT(back.Year == 2024 && back.Month == 2 && back.Day == 29 && back.Hour == 23);
        EXPECT(back.Minute == 59 && back.Second == 58 && back.Milliseconds == 7);
        EXPECT_EQ(back.Weekday, 4);
    }
    RULE("RtlTimeToTimeFields function", "zero is Monday, January 1, 1601") {
        time.QuadPart = 0;
        RtlTimeToTimeFields(&time, &back);
        EXPECT(back.Year == 1601 && back.Month == 1 && back.Day == 1 && back.Hour == 0 && back.Weekday == 1);
    }
    RULE("RtlTimeFieldsToTime function", "FALSE for a date that does not exist") {
        TIME_FIELDS bad = { 2023, 2, 29, 0, 0, 0, 0, 0 };
        EXPECT(!RtlTimeFieldsToTime(&bad, &time));
        bad.Month = 13;
        bad.Day = 1;
        EXPECT(!RtlTimeFieldsToTime(&bad, &time));
        bad.Month = 1;
        bad.Hour = 24;
        EXPECT(!RtlTimeFieldsToTime(&bad, &time));
    }
}

static void versions(void)
{
    RTL_OSVERSIONINFOW version = { sizeof(version), 0, 0, 0, 0, { 0 } };

    RULE("RtlGetVersion function", "STATUS_SUCCESS; Windows 10 or later of the NT platform") {
        EXPECT_STATUS(RtlGetVersion(&version), STATUS_SUCCESS);
        EXPECT(version.dwMajorVersion >= 10);
        EXPECT_EQ(version.dwPlatformId, 2);
        EXPECT(version.dwBuildNumber >= 10240);
    }
    RULE("MmIsThisAnNtAsSystem function", "FALSE on a workstation") {
        EXPECT(!MmIsThisAnNtAsSystem());
    }
}

static struct {
    LONG calls;
    ULONG type, length, first;
    WCHAR name[16];
} value;

static NTSTATUS NTAPI on_value(PWSTR name, ULONG type, PVOID data, ULONG length, PVOID context, PVOID entry)
{
    value.calls++;
    value.type = type;
    value.length = length;
    value.first = length >= 4 ? *(ULONG *)data : 0;
    for (int i = 0; name && i < 15 && (value.name[i] = name[i]); i++)
        ;
    return STATUS_SUCCESS;
}

static void registry(PUNICODE_STRING path)
{
    RTL_QUERY_REGISTRY_TABLE table[3];
    ULONG number = 0;
    WCHAR *key = ExAllocatePoolWithTag(PagedPool, path->Length + 2, 'fnoC');

    RtlCopyMemory(key, path->Buffer, path->Length);
    key[path->Length / 2] = 0;
    RULE("RtlWriteRegistryValue function", "creates the value") {
        ULONG data = 0x12345678;
        EXPECT_STATUS(RtlWriteRegistryValue(RTL_REGISTRY_ABSOLUTE, key, L"Number", REG_DWORD, &data, sizeof(data)),
                      STATUS_SUCCESS);
        EXPECT_STATUS(RtlWriteRegistryValue(RTL_REGISTRY_ABSOLUTE, key, L"Text", REG_SZ, L"abc", 8), STATUS_SUCCESS);
        EXPECT_STATUS(RtlWriteRegistryValue(RTL_REGISTRY_ABSOLUTE, key, L"Several", REG_MULTI_SZ, L"one\0two\0", 18),
                      STATUS_SUCCESS);
    }
    RULE("RtlCheckRegistryKey function", "STATUS_SUCCESS for a key that exists, STATUS_OBJECT_NAME_NOT_FOUND for another") {
        EXPECT_STATUS(RtlCheckRegistryKey(RTL_REGISTRY_ABSOLUTE, key), STATUS_SUCCESS);
        EXPECT_STATUS(RtlCheckRegistryKey(RTL_REGISTRY_SERVICES, (PWSTR)L"NoSuchServiceAtAll"),
                      STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RtlZeroMemory(table, sizeof(table));
    RULE("RtlQueryRegistryValues function", "DIRECT stores a REG_DWORD at the entry's context") {
        table[0].Flags = RTL_QUERY_REGISTRY_DIRECT;
        table[0].Name = (PWSTR)L"Number";
        table[0].EntryContext = &number;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(number, 0x12345678);
    }
    RULE("RtlQueryRegistryValues function", "DIRECT allocates the buffer of a string that has none") {
        UNICODE_STRING text = { 0, 0, NULL };
        table[0].Name = (PWSTR)L"Text";
        table[0].EntryContext = &text;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(text.Length, 6);
        EXPECT(text.Buffer && text.Buffer[0] == L'a' && text.Buffer[2] == L'c');
        RtlFreeUnicodeString(&text);
    }
    RULE("RtlQueryRegistryValues function", "a query routine gets name, type, data and length") {
        RtlZeroMemory(table, sizeof(table));
        RtlZeroMemory(&value, sizeof(value));
        table[0].QueryRoutine = on_value;
        table[0].Name = (PWSTR)L"Number";
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(value.calls, 1);
        EXPECT_EQ(value.type, REG_DWORD);
        EXPECT_EQ(value.length, 4);
        EXPECT_EQ(value.first, 0x12345678);
        EXPECT(value.name[0] == L'N');
    }
    RULE("RtlQueryRegistryValues function", "a REG_MULTI_SZ comes string by string, unless NOEXPAND is given") {
        table[0].Name = (PWSTR)L"Several";
        value.calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(value.calls, 2);
        EXPECT_EQ(value.type, REG_SZ);
        EXPECT_EQ(value.length, 8);
        table[0].Flags = RTL_QUERY_REGISTRY_NOEXPAND;
        value.calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(value.calls, 1);
        EXPECT_EQ(value.type, REG_MULTI_SZ);
        table[0].Flags = 0;
    }
    RULE("RtlQueryRegistryValues function", "a missing value takes its default, is skipped, or fails where REQUIRED") {
        ULONG fallback = 99;
        table[0].Name = (PWSTR)L"Missing";
        value.calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(value.calls, 0);
        table[0].DefaultType = REG_DWORD;
        table[0].DefaultData = &fallback;
        table[0].DefaultLength = 4;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(value.first, 99);
        table[0].DefaultType = REG_NONE;
        table[0].Flags = RTL_QUERY_REGISTRY_REQUIRED;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL),
                      STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("RtlQueryRegistryValues function", "DELETE removes the value once it was read") {
        RtlZeroMemory(table, sizeof(table));
        table[0].QueryRoutine = on_value;
        table[0].Flags = RTL_QUERY_REGISTRY_DELETE;
        table[0].Name = (PWSTR)L"Several";
        value.calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(value.calls, 2);
        EXPECT_STATUS(RtlDeleteRegistryValue(RTL_REGISTRY_ABSOLUTE, key, L"Several"), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("RtlCreateRegistryKey function", "makes a key; opening it again succeeds as well") {
        EXPECT_STATUS(RtlCreateRegistryKey(RTL_REGISTRY_SERVICES, (PWSTR)L"ConformanceKey"), STATUS_SUCCESS);
        EXPECT_STATUS(RtlCreateRegistryKey(RTL_REGISTRY_SERVICES, (PWSTR)L"ConformanceKey"), STATUS_SUCCESS);
        EXPECT_STATUS(RtlCheckRegistryKey(RTL_REGISTRY_SERVICES, (PWSTR)L"ConformanceKey"), STATUS_SUCCESS);
    }
    RULE("RtlDeleteRegistryValue function", "removes a value") {
        EXPECT_STATUS(RtlDeleteRegistryValue(RTL_REGISTRY_ABSOLUTE, key, L"Number"), STATUS_SUCCESS);
        EXPECT_STATUS(RtlDeleteRegistryValue(RTL_REGISTRY_ABSOLUTE, key, L"Number"), STATUS_OBJECT_NAME_NOT_FOUND);
        RtlDeleteRegistryValue(RTL_REGISTRY_ABSOLUTE, key, L"Text");
    }
    ExFreePool(key);
}

static void keys(PUNICODE_STRING path)
{
    OBJECT_ATTRIBUTES attributes;
    HANDLE key = NULL, other;
    ULONG disposition = 0, length;
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Value");
    UNICODE_STRING sub = RTL_CONSTANT_STRING(L"Sub");
    UCHAR room[64];
    PKEY_VALUE_PARTIAL_INFORMATION partial = (PVOID)room;
    PKEY_VALUE_FULL_INFORMATION full = (PVOID)room;
    ULONG data = 7;

    RULE("ZwOpenKey function", "opens the driver's own key") {
        InitializeObjectAttributes(&attributes, path, OBJ_KERNEL_HANDLE | OBJ_CASE_INSENSITIVE, NULL, NULL);
        EXPECT_STATUS(ZwOpenKey(&key, KEY_ALL_ACCESS, &attributes), STATUS_SUCCESS);
        EXPECT(key != NULL);
    }
    RULE("ZwOpenKey function", "STATUS_OBJECT_NAME_NOT_FOUND for a key that is not there") {
        UNICODE_STRING nobody = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\System\\NoSuchKeyAtAll");
        InitializeObjectAttributes(&attributes, &nobody, OBJ_KERNEL_HANDLE, NULL, NULL);
        EXPECT_STATUS(ZwOpenKey(&other, KEY_READ, &attributes), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwCreateKey function", "says whether it made the key or opened it; names are relative to the root handle") {
        InitializeObjectAttributes(&attributes, &sub, OBJ_KERNEL_HANDLE, key, NULL);
        EXPECT_STATUS(ZwCreateKey(&other, KEY_ALL_ACCESS, &attributes, 0, NULL, REG_OPTION_VOLATILE, &disposition),
                      STATUS_SUCCESS);
        EXPECT_EQ(disposition, REG_CREATED_NEW_KEY);
        ZwClose(other);
        EXPECT_STATUS(ZwCreateKey(&other, KEY_ALL_ACCESS, &attributes, 0, NULL, REG_OPTION_VOLATILE, &disposition),
                      STATUS_SUCCESS);
        EXPECT_EQ(disposition, REG_OPENED_EXISTING_KEY);
        ZwClose(other);
    }
    RULE("ZwSetValueKey function", "sets the value") {
        EXPECT_STATUS(ZwSetValueKey(key, &name, 0, REG_DWORD, &data, sizeof(data)), STATUS_SUCCESS);
    }
    RULE("ZwQueryValueKey function", "partial information: type, length, data; the length that it took") {
        EXPECT_STATUS(ZwQueryValueKey(key, &name, KeyValuePartialInformation, partial, sizeof(room), &length),
                      STATUS_SUCCESS);
        EXPECT_EQ(partial->Type, REG_DWORD);
        EXPECT_EQ(partial->DataLength, 4);
        EXPECT_EQ(*(ULONG *)partial->Data, 7);
        EXPECT_EQ(length, FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data) + 4);
    }
    RULE("ZwQueryValueKey function", "full information has the name and where the data is") {
        EXPECT_STATUS(ZwQueryValueKey(key, &name, KeyValueFullInformation, full, sizeof(room), &length), STATUS_SUCCESS);
        EXPECT_EQ(full->NameLength, 10);
        EXPECT(full->Name[0] == L'V');
        EXPECT_EQ(*(ULONG *)((PUCHAR)full + full->DataOffset), 7);
    }
    RULE("ZwQueryValueKey function", "STATUS_BUFFER_TOO_SMALL without room for the fixed part, STATUS_BUFFER_OVERFLOW for the data") {
        EXPECT_STATUS(ZwQueryValueKey(key, &name, KeyValuePartialInformation, partial, 4, &length),
                      STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(length, FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data) + 4);
        EXPECT_STATUS(ZwQueryValueKey(key, &name, KeyValuePartialInformation, partial, 14, &length),
                      STATUS_BUFFER_OVERFLOW);
    }
    RULE("ZwQueryValueKey function", "STATUS_OBJECT_NAME_NOT_FOUND for a value that is not there") {
        UNICODE_STRING nobody = RTL_CONSTANT_STRING(L"Nobody");
        EXPECT_STATUS(ZwQueryValueKey(key, &nobody, KeyValuePartialInformation, partial, sizeof(room), &length),
                      STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwClose function", "STATUS_SUCCESS") {
        EXPECT_STATUS(ZwClose(key), STATUS_SUCCESS);
    }
}

static void lists(void)
{
    LIST_ENTRY head, a, b, c;

    RULE("InitializeListHead function", "an empty list") {
        InitializeListHead(&head);
        EXPECT(IsListEmpty(&head));
        EXPECT(head.Flink == &head && head.Blink == &head);
    }
    RULE("InsertHeadList function", "at the beginning; InsertTailList at the end") {
        InsertHeadList(&head, &a);
        InsertTailList(&head, &b);
        InsertHeadList(&head, &c);
        EXPECT(head.Flink == &c && c.Flink == &a && a.Flink == &b && head.Blink == &b);
    }
    RULE("RemoveEntryList function", "TRUE where the list is empty afterwards") {
        EXPECT(!RemoveEntryList(&a));
        EXPECT(RemoveHeadList(&head) == &c);
        EXPECT(RemoveEntryList(&b));
    }
}

static NTSTATUS NTAPI formatted(char *to, SIZE_T room, const char *format, ...)
{
    va_list list;
    int written;
    va_start(list, format);
    written = _vsnprintf(to, room, format, list);
    va_end(list);
    return written;
}

static int same(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static void printing(void)
{
    char text[64];
    WCHAR wide[64];
    UNICODE_STRING unicode = RTL_CONSTANT_STRING(L"counted");
    ANSI_STRING ansi;

    RtlInitAnsiString(&ansi, "bytes");
    RULE("Format specification syntax: printf and wprintf functions", "integers: sign, width, zeroes, left, bases") {
        EXPECT_EQ(sprintf(text, "%d|%5d|%-5d|%05d|%+d", -1, 42, 42, 42, 42), 24);
        EXPECT(same(text, "-1|   42|42   |00042|+42"));
        sprintf(text, "%x|%X|%#x|%o|%u", 0xBEEF, 0xBEEF, 0xBEEF, 8, 4000000000u);
        EXPECT(same(text, "beef|BEEF|0xbeef|10|4000000000"));
    }
    RULE("Format specification syntax: printf and wprintf functions", "I64 and ll are 64 bits, I is a pointer's size") {
        sprintf(text, "%I64x|%lld|%Iu", 0x123456789ABCULL, -5LL, (SIZE_T)1 << 33);
        EXPECT(same(text, "123456789abc|-5|8589934592"));
    }
    RULE("Format specification syntax: printf and wprintf functions", "%p is sixteen upper-case digits on 64 bits") {
        sprintf(text, "%p", (PVOID)0xFFFFF80012345678ULL);
        EXPECT(same(text, "FFFFF80012345678"));
    }
    RULE("Format specification syntax: printf and wprintf functions", "%s, %ws, %S, %c, precision") {
        sprintf(text, "%s|%ws|%S|%c|%.2s|%5s", "ab", L"cd", L"ef", 'g', "hij", "kl");
        EXPECT(same(text, "ab|cd|ef|g|hi|   kl"));
    }
    RULE("Format specification syntax: printf and wprintf functions", "%wZ is a UNICODE_STRING, %Z an ANSI_STRING") {
        sprintf(text, "%wZ|%Z", &unicode, &ansi);
        EXPECT(same(text, "counted|bytes"));
    }
    RULE("_vsnprintf", "a negative result where it does not fit; no terminator where it fits exactly") {
        RtlFillMemory(text, sizeof(text), '!');
        EXPECT(formatted(text, 4, "%s", "abcdef") < 0);
        EXPECT(text[3] == 'd' && text[4] == '!');
        EXPECT_EQ(formatted(text, 3, "%s", "xyz"), 3);
        EXPECT(text[2] == 'z' && text[3] == 'd');
        EXPECT_EQ(formatted(text, 8, "%s", "xyz"), 3);
        EXPECT(text[3] == 0);
    }
    RULE("_snwprintf", "writes UTF-16; %s takes a wide string") {
        EXPECT_EQ(_snwprintf(wide, 64, L"%s-%d", L"wide", 7), 6);
        EXPECT(wide[0] == L'w' && wide[4] == L'-' && wide[5] == L'7' && wide[6] == 0);
    }
    RULE("DbgPrint function", "STATUS_SUCCESS") {
        EXPECT_STATUS(DbgPrint("conformance: %wZ\n", &unicode), STATUS_SUCCESS);
        EXPECT_STATUS(DbgPrintEx(DPFLTR_IHVDRIVER_ID, DPFLTR_ERROR_LEVEL, "conformance: %s\n", "ex"), STATUS_SUCCESS);
    }
}

static int __cdecl ascending(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void library(void)
{
    char text[32];
    WCHAR wide[32];

    RULE("strlen, wcslen", "characters before the terminator") {
        EXPECT_EQ(strlen("four"), 4);
        EXPECT_EQ(wcslen(L"three"), 5);
    }
    RULE("strcpy, strcat, strncpy, strncat", "copy and append; strncpy fills up with zeroes") {
        strcpy(text, "ab");
        strcat(text, "cd");
        EXPECT(same(text, "abcd"));
        RtlFillMemory(text, sizeof(text), '!');
        strncpy(text, "xy", 4);
        EXPECT(text[2] == 0 && text[3] == 0 && text[4] == '!');
        strncat(text, "12345", 3);
        EXPECT(same(text, "xy123"));
    }
    RULE("strcmp, strncmp, _stricmp, _strnicmp", "negative, zero, positive; with and without case") {
        EXPECT(strcmp("a", "b") < 0 && strcmp("b", "a") > 0 && strcmp("a", "a") == 0);
        EXPECT(strncmp("abc", "abd", 2) == 0 && strncmp("abc", "abd", 3) < 0);
        EXPECT(_stricmp("ABC", "abc") == 0 && _strnicmp("ABx", "aby", 2) == 0);
    }
    RULE("strchr, strrchr, strstr", "the first, the last, the first of a text; NULL where there is none") {
        const char *where = "abcabc";
        EXPECT(strchr(where, 'b') == where + 1);
        EXPECT(strrchr(where, 'b') == where + 4);
        EXPECT(strstr(where, "cab") == where + 2);
        EXPECT(strchr(where, 'z') == NULL && strstr(where, "zz") == NULL);
        EXPECT(strchr(where, 0) == where + 6);
    }
    RULE("wcscpy, wcscat, wcscmp, _wcsicmp, wcschr, wcsstr", "the same of UTF-16") {
        wcscpy(wide, L"ab");
        wcscat(wide, L"cd");
        EXPECT(wcscmp(wide, L"abcd") == 0);
        EXPECT(_wcsicmp(wide, L"ABCD") == 0);
        EXPECT(wcschr(wide, L'c') == wide + 2);
        EXPECT(wcsstr(wide, L"bc") == wide + 1);
    }
    RULE("toupper, tolower", "ASCII letters, others as they are") {
        EXPECT_EQ(toupper('q'), 'Q');
        EXPECT_EQ(tolower('Q'), 'q');
        EXPECT_EQ(toupper('1'), '1');
    }
    RULE("atoi", "blanks, sign, digits, and nothing else") {
        EXPECT_EQ(atoi("  -42x"), -42);
        EXPECT_EQ(atoi("+7"), 7);
        EXPECT_EQ(atoi("x"), 0);
    }
    RULE("qsort", "sorts") {
        int numbers[6] = { 5, 3, 9, -1, 3, 0 };
        qsort(numbers, 6, sizeof(int), ascending);
        for (int i = 1; i < 6; i++)
            EXPECT(numbers[i - 1] <= numbers[i]);
    }
    RULE("memcmp, memmove, memset, memcpy", "as everywhere") {
        memset(text, 'x', 8);
        memcpy(text, "abc", 3);
        memmove(text + 1, text, 3);
        EXPECT(memcmp(text, "aabcx", 5) == 0);
        EXPECT(memcmp("a", "b", 1) < 0);
    }
}

static void objects(void)
{
    RULE("PsGetCurrentProcessId function", "the system process is number 4; threads have numbers of their own") {
        EXPECT_EQ(PsGetCurrentProcessId(), 4);
        EXPECT(PsGetCurrentThreadId() != NULL);
    }
    RULE("ZwClose function", "STATUS_INVALID_HANDLE for what is no handle") {
        EXPECT_STATUS(ZwClose((HANDLE)(ULONG_PTR)0xFFFFFFFF8FFFFFF4ULL), STATUS_INVALID_HANDLE);
    }
    RULE("ObReferenceObjectByHandle function", "STATUS_INVALID_HANDLE for what is no handle") {
        PVOID object = NULL;
        EXPECT_STATUS(ObReferenceObjectByHandle((HANDLE)(ULONG_PTR)0xFFFFFFFF8FFFFFF4ULL, 0, NULL, KernelMode, &object,
                                                NULL), STATUS_INVALID_HANDLE);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    bitmaps();
    dates();
    versions();
    registry(path);
    keys(path);
    lists();
    printing();
    library();
    objects();
}

SUITE("Rtl, Zw, C library")
