/* Sections and views of them: memory of their own, and the machine's. */
#include <check.h>

static HANDLE section;

static NTSTATUS open_physical(HANDLE *handle)
{
    UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\Device\\PhysicalMemory");
    OBJECT_ATTRIBUTES attributes;
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    return ZwOpenSection(handle, SECTION_ALL_ACCESS, &attributes);
}

static NTSTATUS map(HANDLE handle, PVOID *base, ULONGLONG offset, SIZE_T *size, ULONG protection)
{
    LARGE_INTEGER start;
    start.QuadPart = offset;
    *base = NULL;
    return ZwMapViewOfSection(handle, NtCurrentProcess(), base, 0, 0, &start, size, ViewShare, 0, protection);
}

static void own_memory(void)
{
    OBJECT_ATTRIBUTES attributes;
    LARGE_INTEGER size;
    PVOID first = NULL, second = NULL, object = NULL;
    SIZE_T bytes;

    InitializeObjectAttributes(&attributes, NULL, OBJ_KERNEL_HANDLE, NULL, NULL);
    size.QuadPart = 0x20100;
    RULE("ZwCreateSection function", "STATUS_INVALID_PARAMETER_4 without a file and without a size") {
        LARGE_INTEGER none;
        none.QuadPart = 0;
        EXPECT_STATUS(ZwCreateSection(&section, SECTION_ALL_ACCESS, &attributes, NULL, PAGE_READWRITE, SEC_COMMIT, NULL),
                      STATUS_INVALID_PARAMETER_4);
        EXPECT_STATUS(ZwCreateSection(&section, SECTION_ALL_ACCESS, &attributes, &none, PAGE_READWRITE, SEC_COMMIT, NULL),
                      STATUS_INVALID_PARAMETER_4);
    }
    RULE("ZwCreateSection function", "STATUS_INVALID_PAGE_PROTECTION for what is none") {
        EXPECT_STATUS(ZwCreateSection(&section, SECTION_ALL_ACCESS, &attributes, &size, 0x7F, SEC_COMMIT, NULL),
                      STATUS_INVALID_PAGE_PROTECTION);
    }
    RULE("ZwCreateSection function", "without a file: memory of its own") {
        EXPECT_STATUS(ZwCreateSection(&section, SECTION_ALL_ACCESS, &attributes, &size, PAGE_READWRITE, SEC_COMMIT, NULL),
                      STATUS_SUCCESS);
    }
    RULE("ZwMapViewOfSection function", "size 0: all of it, in whole pages, which are zero at first") {
        bytes = 0;
        EXPECT_STATUS(map(section, &first, 0, &bytes, PAGE_READWRITE), STATUS_SUCCESS);
        EXPECT_EQ(bytes, 0x21000);
        EXPECT(first && bytes_are(first, 0, bytes));
    }
    RULE("ZwMapViewOfSection function", "in the process's addresses, at a multiple of 64 KiB") {
        EXPECT_EQ((ULONG_PTR)first % 0x10000, 0);
        EXPECT((ULONG_PTR)first + bytes <= (ULONG_PTR)MM_USER_PROBE_ADDRESS);
    }
    RULE("ZwMapViewOfSection function", "two views show the same memory; the offset is rounded down to 64 KiB") {
        LARGE_INTEGER start;
        start.QuadPart = 0x10008;
        bytes = 8;
        EXPECT_STATUS(ZwMapViewOfSection(section, NtCurrentProcess(), &second, 0, 0, &start, &bytes, ViewShare, 0,
                                         PAGE_READWRITE), STATUS_SUCCESS);
        EXPECT_EQ(start.QuadPart, 0x10000);
        EXPECT_EQ(bytes, 0x1000);
        ((volatile ULONG *)first)[0x10008 / 4] = 0x12345678;
        EXPECT_EQ(((volatile ULONG *)second)[2], 0x12345678);
    }
    RULE("ZwMapViewOfSection function", "STATUS_INVALID_VIEW_SIZE for more than there is") {
        PVOID third;
        bytes = 0x30000;
        EXPECT_STATUS(map(section, &third, 0, &bytes, PAGE_READWRITE), STATUS_INVALID_VIEW_SIZE);
    }
    RULE("ZwUnmapViewOfSection function", "the view that an address lies in goes; the other stays") {
        EXPECT_STATUS(ZwUnmapViewOfSection(NtCurrentProcess(), second), STATUS_SUCCESS);
        EXPECT_STATUS(ZwUnmapViewOfSection(NtCurrentProcess(), second), STATUS_NOT_MAPPED_VIEW);
        EXPECT_EQ(((volatile ULONG *)first)[0x10008 / 4], 0x12345678);
        EXPECT_STATUS(ZwUnmapViewOfSection(NtCurrentProcess(), (PUCHAR)first + 0x20000), STATUS_SUCCESS);
        EXPECT(!MmIsAddressValid(first));
    }
    RULE("MmMapViewInSystemSpace function", "among the system's addresses, by the section's object") {
        EXPECT_STATUS(ObReferenceObjectByHandle(section, SECTION_ALL_ACCESS, NULL, KernelMode, &object, NULL), STATUS_SUCCESS);
        bytes = 0;
        EXPECT_STATUS(MmMapViewInSystemSpace(object, &first, &bytes), STATUS_SUCCESS);
        EXPECT((ULONG_PTR)first >= (ULONG_PTR)MM_SYSTEM_RANGE_START && bytes == 0x21000);
        EXPECT_EQ(((volatile ULONG *)first)[0x10008 / 4], 0x12345678);
    }
    RULE("ZwClose function", "a view keeps its section when the handle is closed") {
        EXPECT_STATUS(ZwClose(section), STATUS_SUCCESS);
        ObDereferenceObject(object);
        EXPECT_EQ(((volatile ULONG *)first)[0x10008 / 4], 0x12345678);
    }
    RULE("MmUnmapViewInSystemSpace function", "takes it away") {
        EXPECT_STATUS(MmUnmapViewInSystemSpace(first), STATUS_SUCCESS);
        EXPECT(!MmIsAddressValid(first));
    }
    RULE("ZwMapViewOfSection function", "STATUS_SECTION_PROTECTION to write what the section only lets read") {
        size.QuadPart = 0x1000;
        bytes = 0;
        EXPECT_STATUS(ZwCreateSection(&section, SECTION_ALL_ACCESS, &attributes, &size, PAGE_READONLY, SEC_COMMIT, NULL),
                      STATUS_SUCCESS);
        EXPECT_STATUS(map(section, &first, 0, &bytes, PAGE_READWRITE), STATUS_SECTION_PROTECTION);
        EXPECT_STATUS(map(section, &first, 0, &bytes, PAGE_READONLY), STATUS_SUCCESS);
        EXPECT_STATUS(ZwUnmapViewOfSection(NtCurrentProcess(), first), STATUS_SUCCESS);
        ZwClose(section);
    }
    RULE("ZwOpenSection function", "the section of that name, as long as somebody has it") {
        UNICODE_STRING name = RTL_CONSTANT_STRING(L"\\BaseNamedObjects\\SectionRule");
        HANDLE again = NULL;
        InitializeObjectAttributes(&attributes, &name, OBJ_KERNEL_HANDLE, NULL, NULL);
        EXPECT_STATUS(ZwOpenSection(&again, SECTION_ALL_ACCESS, &attributes), STATUS_OBJECT_NAME_NOT_FOUND);
        EXPECT_STATUS(ZwCreateSection(&section, SECTION_ALL_ACCESS, &attributes, &size, PAGE_READWRITE, SEC_COMMIT, NULL),
                      STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenSection(&again, SECTION_ALL_ACCESS, &attributes), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(section), STATUS_SUCCESS);
        EXPECT_STATUS(ZwClose(again), STATUS_SUCCESS);
        EXPECT_STATUS(ZwOpenSection(&again, SECTION_ALL_ACCESS, &attributes), STATUS_OBJECT_NAME_NOT_FOUND);
    }
}

static void the_machines(void)
{
    PHYSICAL_ADDRESS highest, where;
    HANDLE memory = NULL;
    PULONG page, registers;
    PVOID view = NULL;
    SIZE_T bytes;

    highest.QuadPart = 0xFFFFFFFF;
    page = MmAllocateContiguousMemory(PAGE_SIZE, highest);
    where = MmGetPhysicalAddress(page);
    RULE("ZwOpenSection function", "\\Device\\PhysicalMemory is what the machine has at physical addresses") {
        EXPECT_STATUS(open_physical(&memory), STATUS_SUCCESS);
    }
    RULE("ZwMapViewOfSection function", "physical memory appears, from the next 64 KiB below on") {
        ULONG_PTR behind = where.QuadPart & 0xFFFF;
        bytes = PAGE_SIZE;
        EXPECT_STATUS(map(memory, &view, where.QuadPart, &bytes, PAGE_READWRITE), STATUS_SUCCESS);
        EXPECT_EQ(bytes, behind + PAGE_SIZE);
        page[5] = 0xABCD1234;
        EXPECT_EQ(((volatile ULONG *)((PUCHAR)view + behind))[5], 0xABCD1234);
        EXPECT_EQ(MmGetPhysicalAddress((PUCHAR)view + behind).QuadPart, where.QuadPart);
        EXPECT_STATUS(ZwUnmapViewOfSection(NtCurrentProcess(), view), STATUS_SUCCESS);
    }
    RULE("ZwMapViewOfSection function", "PAGE_NOCACHE: a device's registers, as MmMapIoSpace maps them") {
        PHYSICAL_ADDRESS io_apic;
        io_apic.QuadPart = 0xFEC00000;
        bytes = PAGE_SIZE;
        EXPECT_STATUS(map(memory, &view, io_apic.QuadPart, &bytes, PAGE_READWRITE | PAGE_NOCACHE), STATUS_SUCCESS);
        registers = MmMapIoSpace(io_apic, PAGE_SIZE, MmNonCached);
        EXPECT_EQ(((volatile ULONG *)view)[0], ((volatile ULONG *)registers)[0]);
        MmUnmapIoSpace(registers, PAGE_SIZE);
        EXPECT_STATUS(ZwUnmapViewOfSection(NtCurrentProcess(), view), STATUS_SUCCESS);
    }
    RULE("ZwClose function", "its handle as any other") {
        EXPECT_STATUS(ZwClose(memory), STATUS_SUCCESS);
    }
    MmFreeContiguousMemory(page);
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    own_memory();
    the_machines();
    (void)driver;
    (void)path;
}

SUITE("Sections")
