/* Keys and values through handles: made, opened, described, enumerated, deleted. */
#include <check.h>

typedef struct {
    ULONG NameLength;
    WCHAR Name[1];
} KEY_NAME;

static union {
    KEY_BASIC_INFORMATION basic;
    KEY_NODE_INFORMATION node;
    KEY_FULL_INFORMATION full;
    KEY_NAME name;
    KEY_VALUE_BASIC_INFORMATION value;
    KEY_VALUE_FULL_INFORMATION full_value;
    KEY_VALUE_PARTIAL_INFORMATION partial;
    UCHAR bytes[512];
} answer;

static ULONG length;

static UNICODE_STRING one = RTL_CONSTANT_STRING(L"One");
static UNICODE_STRING longer = RTL_CONSTANT_STRING(L"LongerName");
static UNICODE_STRING unnamed;

static OBJECT_ATTRIBUTES named(HANDLE root, PUNICODE_STRING name)
{
    OBJECT_ATTRIBUTES attributes;
    InitializeObjectAttributes(&attributes, name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, root, NULL);
    return attributes;
}

static NTSTATUS make(HANDLE *key, HANDLE root, const WCHAR *text, PULONG disposition)
{
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES attributes;
    RtlInitUnicodeString(&name, text);
    attributes = named(root, &name);
    return ZwCreateKey(key, KEY_ALL_ACCESS, &attributes, 0, NULL, REG_OPTION_VOLATILE, disposition);
}

static NTSTATUS reopen(HANDLE *key, HANDLE root, const WCHAR *text)
{
    UNICODE_STRING name;
    OBJECT_ATTRIBUTES attributes;
    RtlInitUnicodeString(&name, text);
    attributes = named(root, &name);
    return ZwOpenKey(key, KEY_ALL_ACCESS, &attributes);
}

static NTSTATUS set(HANDLE key, PUNICODE_STRING name, ULONG type, const void *data, ULONG bytes)
{
    return ZwSetValueKey(key, name, 0, type, (PVOID)data, bytes);
}

static NTSTATUS get(HANDLE key, PUNICODE_STRING name)
{
    return ZwQueryValueKey(key, name, KeyValuePartialInformation, &answer, sizeof(answer), &length);
}

static int is_text(const WCHAR *units, ULONG bytes, const WCHAR *text)
{
    UNICODE_STRING actual, expected;
    actual.Buffer = (PWSTR)units;
    actual.Length = actual.MaximumLength = (USHORT)bytes;
    RtlInitUnicodeString(&expected, text);
    return RtlEqualUnicodeString(&actual, &expected, FALSE);
}

/* The names of a key's subkeys or values, whatever their order: which of two were seen, and how many others. */
struct seen {
    int first, second, others;
};

static void see(struct seen *seen, const WCHAR *name, ULONG bytes, const WCHAR *first, const WCHAR *second)
{
    if (is_text(name, bytes, first))
        seen->first++;
    else if (is_text(name, bytes, second))
        seen->second++;
    else
        seen->others++;
}

static void opening(HANDLE service, HANDLE *key)
{
    HANDLE again = NULL;
    ULONG disposition = 0;

    RULE("ZwCreateKey function", "REG_CREATED_NEW_KEY for a key that was not there") {
        EXPECT_STATUS(make(key, service, L"Conformance", &disposition), STATUS_SUCCESS);
        EXPECT_EQ(disposition, REG_CREATED_NEW_KEY);
    }
    RULE("ZwCreateKey function", "REG_OPENED_EXISTING_KEY for one that was, whatever the case of its name") {
        EXPECT_STATUS(make(&again, service, L"CONFORMANCE", &disposition), STATUS_SUCCESS);
        EXPECT_EQ(disposition, REG_OPENED_EXISTING_KEY);
        EXPECT_STATUS(ZwClose(again), STATUS_SUCCESS);
    }
    RULE("ZwOpenKey function", "a name relative to RootDirectory") {
        EXPECT_STATUS(reopen(&again, service, L"Conformance"), STATUS_SUCCESS);
        EXPECT(again != NULL);
        ZwClose(again);
    }
    RULE("ZwOpenKey function", "STATUS_OBJECT_NAME_NOT_FOUND where there is no such key; it makes none") {
        EXPECT_STATUS(reopen(&again, *key, L"NoSuchKey"), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(reopen(&again, *key, L"NoSuchKey"), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwOpenKeyEx function", "opens the key with OpenOptions of none, as ZwOpenKey does") {
        UNICODE_STRING name = RTL_CONSTANT_STRING(L"Conformance");
        OBJECT_ATTRIBUTES attributes = named(service, &name);
        EXPECT_STATUS(ZwOpenKeyEx(&again, KEY_READ, &attributes, 0), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(again), STATUS_SUCCESS);
        RtlInitUnicodeString(&name, L"NoSuchKey");
        EXPECT_STATUS(ZwOpenKeyEx(&again, KEY_READ, &attributes, 0), STATUS_OBJECT_NAME_NOT_FOUND);
    }
}

static void values(HANDLE key)
{
    ULONG number = 0x11223344;
    struct seen seen = { 0, 0, 0 };

    RULE("ZwSetValueKey function", "creates the value; ZwQueryValueKey gives its type and data") {
        EXPECT_STATUS(set(key, &one, REG_DWORD, &number, sizeof(number)), STATUS_SUCCESS);
        EXPECT_STATUS(get(key, &one), STATUS_SUCCESS);
        EXPECT_EQ(answer.partial.Type, REG_DWORD);
        EXPECT_EQ(answer.partial.DataLength, 4);
        EXPECT_EQ(*(ULONG *)answer.partial.Data, number);
    }
    RULE("ZwSetValueKey function", "replaces type and data of a value of that name") {
        EXPECT_STATUS(set(key, &one, REG_BINARY, "abcdef", 6), STATUS_SUCCESS);
        EXPECT_STATUS(get(key, &one), STATUS_SUCCESS);
        EXPECT_EQ(answer.partial.Type, REG_BINARY);
        EXPECT_EQ(answer.partial.DataLength, 6);
        EXPECT_EQ(answer.partial.Data[5], 'f');
    }
    RULE("ZwQueryValueKey function", "STATUS_OBJECT_NAME_NOT_FOUND where there is no such value") {
        EXPECT_STATUS(get(key, &longer), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwQueryValueKey function", "STATUS_BUFFER_TOO_SMALL without room for the structure: ResultLength says what it takes") {
        EXPECT_STATUS(ZwQueryValueKey(key, &one, KeyValuePartialInformation, NULL, 0, &length), STATUS_BUFFER_TOO_SMALL);
        EXPECT_EQ(length, FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data) + 6);
    }
    RULE("ZwQueryValueKey function", "STATUS_BUFFER_OVERFLOW with room for a part: that part is there") {
        ULONG room = FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data) + 2;
        RtlFillMemory(&answer, sizeof(answer), 0xEE);
        EXPECT_STATUS(ZwQueryValueKey(key, &one, KeyValuePartialInformation, &answer, room, &length), STATUS_BUFFER_OVERFLOW);
        EXPECT_EQ(length, room + 4);
        EXPECT_EQ(answer.partial.DataLength, 6);
        EXPECT_EQ(answer.bytes[room], 0xEE);
    }
    RULE("KEY_VALUE_BASIC_INFORMATION structure", "type and name; the name's length in bytes, without a terminator") {
        EXPECT_STATUS(ZwQueryValueKey(key, &one, KeyValueBasicInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT_EQ(answer.value.Type, REG_BINARY);
        EXPECT_EQ(answer.value.NameLength, 6);
        EXPECT(is_text(answer.value.Name, answer.value.NameLength, L"One"));
    }
    RULE("KEY_VALUE_FULL_INFORMATION structure", "DataOffset leads from the structure's beginning to the data") {
        EXPECT_STATUS(ZwQueryValueKey(key, &one, KeyValueFullInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT_EQ(answer.full_value.DataLength, 6);
        EXPECT(answer.full_value.DataOffset >= FIELD_OFFSET(KEY_VALUE_FULL_INFORMATION, Name) + 6);
        EXPECT(RtlCompareMemory(answer.bytes + answer.full_value.DataOffset, "abcdef", 6) == 6);
        EXPECT(is_text(answer.full_value.Name, answer.full_value.NameLength, L"One"));
    }
    RULE("ZwSetValueKey function", "a value without a name, by an empty string") {
        EXPECT_STATUS(set(key, &unnamed, REG_DWORD, &number, 4), STATUS_SUCCESS);
        EXPECT_STATUS(get(key, &unnamed), STATUS_SUCCESS);
        EXPECT_EQ(*(ULONG *)answer.partial.Data, number);
    }
    RULE("ZwDeleteValueKey function", "deletes the value of that name, here the one without") {
        EXPECT_STATUS(ZwDeleteValueKey(key, &unnamed), STATUS_SUCCESS);
        EXPECT_STATUS(get(key, &unnamed), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(get(key, &one), STATUS_SUCCESS);
    }
    RULE("ZwDeleteValueKey function", "STATUS_OBJECT_NAME_NOT_FOUND where there is none of that name") {
        EXPECT_STATUS(ZwDeleteValueKey(key, &unnamed), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(ZwDeleteValueKey(key, &longer), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwEnumerateValueKey function", "indices from zero give each value once, then STATUS_NO_MORE_ENTRIES") {
        ULONG index = 0;
        EXPECT_STATUS(set(key, &longer, REG_DWORD, &number, 4), STATUS_SUCCESS);
        while (index < 10 && ZwEnumerateValueKey(key, index, KeyValueBasicInformation, &answer, sizeof(answer), &length) ==
                                 STATUS_SUCCESS) {
            see(&seen, answer.value.Name, answer.value.NameLength, L"One", L"LongerName");
            index++;
        }
        EXPECT(seen.first == 1 && seen.second == 1 && seen.others == 0);
        EXPECT_STATUS(ZwEnumerateValueKey(key, 2, KeyValueBasicInformation, &answer, sizeof(answer), &length),
                      STATUS_NO_MORE_ENTRIES);
    }
    RULE("ZwEnumerateValueKey function", "STATUS_BUFFER_TOO_SMALL with the length that it takes") {
        ULONG first = 0;
        EXPECT_STATUS(ZwEnumerateValueKey(key, 0, KeyValueFullInformation, &answer, 4, &first), STATUS_BUFFER_TOO_SMALL);
        EXPECT_STATUS(ZwEnumerateValueKey(key, 0, KeyValueFullInformation, &answer, first, &length), STATUS_SUCCESS);
        EXPECT_EQ(length, first);
    }
    RULE("ZwEnumerateValueKey function", "STATUS_INVALID_HANDLE for a handle that is none") {
        EXPECT_STATUS(ZwEnumerateValueKey(NULL, 0, KeyValueBasicInformation, &answer, sizeof(answer), &length),
                      STATUS_INVALID_HANDLE);
    }
}

static void keys(HANDLE key)
{
    HANDLE first = NULL, second = NULL, other = NULL;
    struct seen seen = { 0, 0, 0 };

    RULE("KEY_BASIC_INFORMATION structure", "the key's own name, without the path, as it was made") {
        EXPECT_STATUS(ZwQueryKey(key, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT(is_text(answer.basic.Name, answer.basic.NameLength, L"Conformance"));
        EXPECT_EQ(length, FIELD_OFFSET(KEY_BASIC_INFORMATION, Name) + 22);
    }
    RULE("KEY_NODE_INFORMATION structure", "the name behind the fixed part; no class is a length of zero") {
        EXPECT_STATUS(ZwQueryKey(key, KeyNodeInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT_EQ(answer.node.ClassLength, 0);
        EXPECT(is_text(answer.node.Name, answer.node.NameLength, L"Conformance"));
    }
    RULE("KEY_INFORMATION_CLASS enumeration", "KeyNameInformation is the whole path") {
        UNICODE_STRING path, prefix = RTL_CONSTANT_STRING(L"\\Registry\\Machine\\");
        EXPECT_STATUS(ZwQueryKey(key, KeyNameInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        path.Buffer = answer.name.Name;
        path.Length = path.MaximumLength = (USHORT)answer.name.NameLength;
        EXPECT(RtlPrefixUnicodeString(&prefix, &path, TRUE));
        EXPECT(is_text(path.Buffer + path.Length / 2 - 12, 24, L"\\Conformance"));
    }
    RULE("ZwQueryKey function", "STATUS_BUFFER_TOO_SMALL writes nothing but ResultLength") {
        RtlFillMemory(&answer, sizeof(answer), 0xEE);
        EXPECT_STATUS(ZwQueryKey(key, KeyBasicInformation, &answer, 8, &length), STATUS_BUFFER_TOO_SMALL);
        EXPECT(bytes_are(&answer, 0xEE, sizeof(answer)));
        EXPECT_EQ(length, FIELD_OFFSET(KEY_BASIC_INFORMATION, Name) + 22);
    }
    RULE("ZwQueryKey function", "STATUS_BUFFER_OVERFLOW where only the name does not fit") {
        ULONG room = FIELD_OFFSET(KEY_BASIC_INFORMATION, Name) + 2;
        EXPECT_STATUS(ZwQueryKey(key, KeyBasicInformation, &answer, room, &length), STATUS_BUFFER_OVERFLOW);
        EXPECT_EQ(answer.basic.NameLength, 22);
    }
    RULE("ZwQueryKey function", "STATUS_INVALID_HANDLE for a handle that is none") {
        EXPECT_STATUS(ZwQueryKey(NULL, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_INVALID_HANDLE);
    }
    RULE("ZwEnumerateKey function", "STATUS_NO_MORE_ENTRIES at once for a key without subkeys") {
        EXPECT_STATUS(ZwEnumerateKey(key, 0, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_NO_MORE_ENTRIES);
    }
    RULE("ZwEnumerateKey function", "indices from zero give each subkey once, then STATUS_NO_MORE_ENTRIES") {
        ULONG index = 0;
        EXPECT_STATUS(make(&second, key, L"Zulu", NULL), STATUS_SUCCESS);
        EXPECT_STATUS(make(&first, key, L"AlphaBravo", NULL), STATUS_SUCCESS);
        while (index < 10 &&
               ZwEnumerateKey(key, index, KeyBasicInformation, &answer, sizeof(answer), &length) == STATUS_SUCCESS) {
            see(&seen, answer.basic.Name, answer.basic.NameLength, L"AlphaBravo", L"Zulu");
            index++;
        }
        EXPECT(seen.first == 1 && seen.second == 1 && seen.others == 0);
        EXPECT_STATUS(ZwEnumerateKey(key, 2, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_NO_MORE_ENTRIES);
    }
    RULE("ZwEnumerateKey function", "KeyNameInformation is not for this routine: STATUS_INVALID_PARAMETER") {
        EXPECT_STATUS(ZwEnumerateKey(key, 0, KeyNameInformation, &answer, sizeof(answer), &length), STATUS_INVALID_PARAMETER);
    }
    RULE("KEY_FULL_INFORMATION structure", "how many subkeys and values, and the bytes of the longest of each") {
        EXPECT_STATUS(ZwQueryKey(key, KeyFullInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT_EQ(answer.full.SubKeys, 2);
        EXPECT_EQ(answer.full.Values, 2);
        EXPECT_EQ(answer.full.MaxNameLen, 20);
        EXPECT_EQ(answer.full.MaxValueNameLen, 20);
        EXPECT_EQ(answer.full.MaxValueDataLen, 6);
    }
    RULE("ZwFlushKey function", "STATUS_SUCCESS for an open key") {
        EXPECT_STATUS(ZwFlushKey(key), STATUS_SUCCESS);
    }
    RULE("ZwDeleteKey function", "STATUS_CANNOT_DELETE for a key that has subkeys") {
        EXPECT_STATUS(ZwDeleteKey(key), STATUS_CANNOT_DELETE);
        EXPECT_STATUS(reopen(&other, key, L"Zulu"), STATUS_SUCCESS);
    }
    RULE("ZwDeleteKey function", "the key is gone, and every handle to it is invalid but for ZwClose") {
        EXPECT_STATUS(ZwDeleteKey(second), STATUS_SUCCESS);
        EXPECT(!NT_SUCCESS(ZwQueryKey(second, KeyBasicInformation, &answer, sizeof(answer), &length)));
        EXPECT(!NT_SUCCESS(ZwQueryKey(other, KeyBasicInformation, &answer, sizeof(answer), &length)));
        EXPECT_STATUS(ZwClose(second), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(other), STATUS_SUCCESS);
        EXPECT_STATUS(reopen(&other, key, L"Zulu"), STATUS_OBJECT_NAME_NOT_FOUND);
    }
    RULE("ZwEnumerateKey function", "a deleted subkey is not enumerated") {
        EXPECT_STATUS(ZwEnumerateKey(key, 0, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT(is_text(answer.basic.Name, answer.basic.NameLength, L"AlphaBravo"));
        EXPECT_STATUS(ZwEnumerateKey(key, 1, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_NO_MORE_ENTRIES);
    }
    RULE("ZwDeleteKey function", "a key goes with its values, once its subkeys are gone") {
        EXPECT_STATUS(ZwDeleteKey(first), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(first), STATUS_SUCCESS);
        EXPECT_STATUS(ZwDeleteKey(key), STATUS_SUCCESS);
    }
}

/* Information that not every caller asks for. */
static void more_of_keys(HANDLE key)
{
    HANDLE made;
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"Classed"), kind = RTL_CONSTANT_STRING(L"Kind");
    OBJECT_ATTRIBUTES attributes = named(key, &name);
    ULONG disposition;

    if (!NT_SUCCESS(ZwCreateKey(&made, KEY_ALL_ACCESS, &attributes, 0, &kind, REG_OPTION_VOLATILE, &disposition)))
        return;
    RULE("KEY_NODE_INFORMATION structure", "the class that the key was made with, at ClassOffset") {
        EXPECT_STATUS(ZwQueryKey(made, KeyNodeInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT_EQ(answer.node.ClassLength, 8);
        EXPECT(is_text((WCHAR *)(answer.bytes + answer.node.ClassOffset), 8, L"Kind"));
        EXPECT(is_text(answer.node.Name, answer.node.NameLength, L"Classed"));
        EXPECT_EQ(length, answer.node.ClassOffset + 8);
    }
    RULE("KEY_FULL_INFORMATION structure", "the class, and the longest class of the subkeys") {
        EXPECT_STATUS(ZwQueryKey(made, KeyFullInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT(answer.full.ClassLength == 8 && is_text((WCHAR *)(answer.bytes + answer.full.ClassOffset), 8, L"Kind"));
        EXPECT_STATUS(ZwQueryKey(key, KeyFullInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT_EQ(answer.full.MaxClassLen, 8);
    }
    RULE("KEY_BASIC_INFORMATION structure", "LastWriteTime is when a value was set, and no earlier than the key was made") {
        LARGE_INTEGER before, made_at;
        ULONG number = 1;
        KeQuerySystemTime(&before);
        EXPECT_STATUS(ZwQueryKey(made, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        made_at = answer.basic.LastWriteTime;
        EXPECT(made_at.QuadPart > 0 && made_at.QuadPart <= before.QuadPart);
        sleep_us(20000);
        EXPECT_STATUS(set(made, &one, REG_DWORD, &number, 4), STATUS_SUCCESS);
        EXPECT_STATUS(ZwQueryKey(made, KeyBasicInformation, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT(answer.basic.LastWriteTime.QuadPart > made_at.QuadPart);
    }
    RULE("KEY_VALUE_INFORMATION_CLASS enumeration", "KeyValuePartialInformationAlign64: type, length and data on an 8-byte boundary") {
        struct {
            ULONG Type, DataLength;
            UCHAR Data[8];
        } *aligned = (PVOID)&answer;
        EXPECT_STATUS(ZwQueryValueKey(made, &one, KeyValuePartialInformationAlign64, &answer, sizeof(answer), &length), STATUS_SUCCESS);
        EXPECT(aligned->Type == REG_DWORD && aligned->DataLength == 4 && aligned->Data[0] == 1);
        EXPECT_EQ(length, 12);
    }
    RULE("ZwQueryValueKey function", "STATUS_KEY_DELETED for a handle whose key is gone, as of its other routines") {
        EXPECT_STATUS(ZwDeleteKey(made), STATUS_SUCCESS);
        EXPECT_STATUS(get(made, &one), STATUS_KEY_DELETED);
        EXPECT_STATUS(ZwEnumerateValueKey(made, 0, KeyValueBasicInformation, &answer, sizeof(answer), &length), STATUS_KEY_DELETED);
        EXPECT_STATUS(set(made, &one, REG_DWORD, &length, 4), STATUS_KEY_DELETED);
        ZwClose(made);
    }
}

static unsigned table_calls;

static NTSTATUS NTAPI count_call(PWSTR name, ULONG type, PVOID data, ULONG bytes, PVOID context, PVOID entry)
{
    (void)name;
    (void)type;
    (void)data;
    (void)bytes;
    (void)context;
    table_calls++;
    return entry ? STATUS_BUFFER_TOO_SMALL : STATUS_SUCCESS;
}

static NTSTATUS NTAPI nothing_given(PWSTR name, ULONG type, PVOID data, ULONG length, PVOID context, PVOID entry)
{
    table_calls += !name && type == REG_NONE && !data && !length;
    return STATUS_SUCCESS;
}

/* RtlQueryRegistryValues: combinations of flags that do not go together, and what becomes of several strings. */
static void tables(HANDLE key)
{
    RTL_QUERY_REGISTRY_TABLE table[4];
    UNICODE_STRING list = RTL_CONSTANT_STRING(L"List"), got;
    WCHAR room[16];
    ULONG number = 0;

    RtlZeroMemory(table, sizeof(table));
    set(key, &list, REG_MULTI_SZ, L"a\0bc\0", 12);
    RULE("RtlQueryRegistryValues function", "DIRECT: several strings, and what is counted is all but the last terminator") {
        got.Buffer = room;
        got.Length = 0;
        got.MaximumLength = sizeof(room);
        table[0].Flags = RTL_QUERY_REGISTRY_DIRECT | RTL_QUERY_REGISTRY_REQUIRED;
        table[0].Name = L"List";
        table[0].EntryContext = &got;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(got.Length, 10);
        EXPECT(room[0] == L'a' && room[2] == L'b');
    }
    RULE("RtlQueryRegistryValues function", "DIRECT: STATUS_BUFFER_TOO_SMALL where a string's buffer is") {
        got.MaximumLength = 6;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_BUFFER_TOO_SMALL);
    }
    RULE("RtlQueryRegistryValues function", "DIRECT with a QueryRoutine, or without a name: STATUS_INVALID_PARAMETER") {
        table[0].QueryRoutine = count_call;
        table_calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_INVALID_PARAMETER);
        table[0].QueryRoutine = NULL;
        table[0].Name = NULL;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_INVALID_PARAMETER);
        table[0].Flags = RTL_QUERY_REGISTRY_DELETE;
        table[0].QueryRoutine = count_call;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_INVALID_PARAMETER);
        EXPECT_EQ(table_calls, 0);
    }
    RULE("RtlQueryRegistryValues function", "NOVALUE: the routine is called once, and there is neither a name nor data") {
        RtlZeroMemory(table, sizeof(table));
        table[0].QueryRoutine = nothing_given;
        table[0].Flags = RTL_QUERY_REGISTRY_NOVALUE;
        table_calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(table_calls, 1);
    }
    RULE("RtlQueryRegistryValues function", "REG_MULTI_SZ: a call for each string; with NOEXPAND one for all") {
        RtlZeroMemory(table, sizeof(table));
        table[0].QueryRoutine = count_call;
        table[0].Name = L"List";
        table_calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(table_calls, 2);
        table[0].Flags = RTL_QUERY_REGISTRY_NOEXPAND;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(table_calls, 3);
    }
    RULE("RtlQueryRegistryValues function", "a routine that returns STATUS_BUFFER_TOO_SMALL does not end it") {
        table[0].EntryContext = table;
        table[1] = table[0];
        table_calls = 0;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(table_calls, 2);
    }
    RULE("RtlQueryRegistryValues function", "a default of several strings needs no length") {
        RtlZeroMemory(table, sizeof(table));
        got.MaximumLength = sizeof(room);
        table[0].Flags = RTL_QUERY_REGISTRY_DIRECT;
        table[0].Name = L"Nowhere";
        table[0].EntryContext = &got;
        table[0].DefaultType = REG_MULTI_SZ;
        table[0].DefaultData = L"x\0yz\0";
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_HANDLE, (PCWSTR)key, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT(got.Length == 10 && room[2] == L'y');
    }
    RULE("RtlQueryRegistryValues function", "RTL_REGISTRY_WINDOWS_NT and RTL_REGISTRY_USER are paths of the registry") {
        RtlZeroMemory(table, sizeof(table));
        table[0].Flags = RTL_QUERY_REGISTRY_DIRECT;
        table[0].Name = L"NoSuchValue";
        table[0].EntryContext = &number;
        table[0].DefaultType = REG_DWORD;
        table[0].DefaultData = &table_calls;
        table[0].DefaultLength = 4;
        table_calls = 17;
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_WINDOWS_NT, NULL, table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_EQ(number, 17);
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_USER, L"", table, NULL, NULL), STATUS_SUCCESS);
        EXPECT_STATUS(RtlQueryRegistryValues(RTL_REGISTRY_MAXIMUM, NULL, table, NULL, NULL), STATUS_INVALID_PARAMETER);
    }
    ZwDeleteValueKey(key, &list);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    OBJECT_ATTRIBUTES attributes = named(NULL, path);
    HANDLE service = NULL, key = NULL, more = NULL;

    (void)driver;
    RULE("ZwOpenKey function", "the registry path that DriverEntry gets is a key's") {
        EXPECT_STATUS(ZwOpenKey(&service, KEY_ALL_ACCESS, &attributes), STATUS_SUCCESS);
    }
    opening(service, &key);
    values(key);
    keys(key);
    if (NT_SUCCESS(make(&more, service, L"More", NULL))) {
        more_of_keys(more);
        tables(more);
        ZwDeleteKey(more);
        ZwClose(more);
    }
    RULE("ZwClose function", "closes the handle of a deleted key") {
        EXPECT_STATUS(ZwClose(key), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(service), STATUS_SUCCESS);
    }
}

SUITE("Zw registry")
