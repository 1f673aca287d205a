/* Memory, third part: lists that are parts of others, chunks, what memory there is. */

#include "check.h"

static PHYSICAL_ADDRESS at(LONGLONG address)
{
    PHYSICAL_ADDRESS physical;
    physical.QuadPart = address;
    return physical;
}

static void check_partial(void)
{
    PUCHAR buffer = ExAllocatePoolWithTag(NonPagedPool, 3 * PAGE_SIZE, 'prMX');
    PMDL source, locked, part;
    PUCHAR mapped;

    for (ULONG i = 0; i < 3 * PAGE_SIZE; i++)
        buffer[i] = (UCHAR)(i >> 8);
    source = IoAllocateMdl(buffer, 3 * PAGE_SIZE, FALSE, FALSE, NULL);
    locked = IoAllocateMdl(buffer, 3 * PAGE_SIZE, FALSE, FALSE, NULL);
    part = IoAllocateMdl(buffer, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
    MmBuildMdlForNonPagedPool(source);
    MmProbeAndLockPages(locked, KernelMode, IoReadAccess);

    RULE("IoBuildPartialMdl function", "a part of nonpaged pool has the pool's own address") {
        IoBuildPartialMdl(source, part, buffer + 100, PAGE_SIZE);
        EXPECT(part->MdlFlags & MDL_PARTIAL);
        EXPECT(part->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL);
        EXPECT_EQ(MmGetSystemAddressForMdlSafe(part, NormalPagePriority), buffer + 100);
        EXPECT_EQ(MmGetMdlVirtualAddress(part), buffer + 100);
        EXPECT_EQ(MmGetMdlByteCount(part), PAGE_SIZE);
    }
    RULE("IoBuildPartialMdl function", "the list may be used again for a part of another") {
        MmPrepareMdlForReuse(part);
        IoBuildPartialMdl(locked, part, buffer + PAGE_SIZE + 8, 16);
        EXPECT(part->MdlFlags & MDL_PARTIAL);
        EXPECT(!(part->MdlFlags & (MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA)));
        EXPECT_EQ(MmGetMdlByteOffset(part), ((ULONG_PTR)buffer + 8) % PAGE_SIZE);
    }
    RULE("MmGetSystemAddressForMdlSafe macro", "maps a part of a list that is not mapped; MmPrepareMdlForReuse unmaps it") {
        mapped = MmGetSystemAddressForMdlSafe(part, NormalPagePriority);
        EXPECT(mapped && mapped != buffer + PAGE_SIZE + 8 && *mapped == buffer[PAGE_SIZE + 8]);
        EXPECT(part->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA);
        EXPECT(part->MdlFlags & MDL_PARTIAL_HAS_BEEN_MAPPED);
        MmPrepareMdlForReuse(part);
        EXPECT(!(part->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PARTIAL_HAS_BEEN_MAPPED)));
        EXPECT(!MmIsAddressValid(mapped));
    }
    RULE("IoBuildPartialMdl function", "a part of a list that is mapped shares its mapping, which stays the other's") {
        PUCHAR whole = MmGetSystemAddressForMdlSafe(locked, NormalPagePriority);
        IoBuildPartialMdl(locked, part, buffer + PAGE_SIZE, PAGE_SIZE);
        EXPECT(part->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA);
        EXPECT_EQ(MmGetSystemAddressForMdlSafe(part, NormalPagePriority), whole + PAGE_SIZE);
        MmPrepareMdlForReuse(part);
        EXPECT(MmIsAddressValid(whole + PAGE_SIZE));
        MmUnmapLockedPages(whole, locked);
        EXPECT(!MmIsAddressValid(whole));
    }
    RULE("IoFreeMdl function", "unmaps what was mapped of a part") {
        IoBuildPartialMdl(locked, part, buffer, PAGE_SIZE);
        mapped = MmGetSystemAddressForMdlSafe(part, NormalPagePriority);
        EXPECT(mapped && MmIsAddressValid(mapped));
        IoFreeMdl(part);
        EXPECT(!MmIsAddressValid(mapped));
    }
    MmUnlockPages(locked);
    IoFreeMdl(locked);
    IoFreeMdl(source);
    ExFreePoolWithTag(buffer, 'prMX');
}

static void check_user(void)
{
    PUCHAR buffer = ExAllocatePoolWithTag(NonPagedPool, 2 * PAGE_SIZE, 'prMX');
    PMDL mdl = IoAllocateMdl(buffer + 16, PAGE_SIZE, FALSE, FALSE, NULL);
    PUCHAR mapped = NULL;

    MmBuildMdlForNonPagedPool(mdl);
    RULE("MmMapLockedPagesSpecifyCache function", "UserMode: an address of user mode's for the same memory, at the same offset") {
        mapped = MmMapLockedPagesSpecifyCache(mdl, UserMode, MmCached, NULL, FALSE, NormalPagePriority);
        EXPECT(mapped != NULL);
        EXPECT(mapped < (PUCHAR)MmHighestUserAddress);
        EXPECT_EQ((ULONG_PTR)mapped % PAGE_SIZE, (ULONG_PTR)(buffer + 16) % PAGE_SIZE);
        mapped[3] = 0x5A;
        EXPECT_EQ(buffer[19], 0x5A);
        ProbeForWrite(mapped, 16, 1);
    }
    RULE("MmMapLockedPagesSpecifyCache function", "UserMode: the MDL's system address stays what it was") {
        EXPECT_EQ(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), buffer + 16);
    }
    RULE("MmUnmapLockedPages function", "takes a mapping for user mode away") {
        MmUnmapLockedPages(mapped, mdl);
        EXPECT(!MmIsAddressValid(mapped));
        EXPECT_EQ(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), buffer + 16);
    }
    IoFreeMdl(mdl);
    ExFreePoolWithTag(buffer, 'prMX');
}

static void check_chunks(void)
{
    PMDL mdl;
    PPFN_NUMBER frames;

    RULE("MmAllocatePagesForMdlEx function", "MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS: contiguous in chunks of SkipBytes") {
        mdl = MmAllocatePagesForMdlEx(at(0), at(-1), at(4 * PAGE_SIZE), 16 * PAGE_SIZE, MmCached, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
        EXPECT(mdl && MmGetMdlByteCount(mdl) == 16 * PAGE_SIZE);
        frames = mdl ? MmGetMdlPfnArray(mdl) : NULL;
        for (int i = 0; mdl && i < 16; i++)
            EXPECT_EQ(frames[i], frames[i & ~3] + (i & 3));
        if (mdl) {
            MmFreePagesFromMdl(mdl);
            ExFreePool(mdl);
        }
    }
    RULE("MmAllocatePagesForMdlEx function", "the same with SkipBytes zero: all of it contiguous") {
        mdl = MmAllocatePagesForMdlEx(at(0), at(-1), at(0), 20 * PAGE_SIZE, MmCached, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS);
        EXPECT(mdl && MmGetMdlByteCount(mdl) == 20 * PAGE_SIZE);
        frames = mdl ? MmGetMdlPfnArray(mdl) : NULL;
        for (int i = 0; mdl && i < 20; i++)
            EXPECT_EQ(frames[i], frames[0] + i);
        if (mdl) {
            MmFreePagesFromMdl(mdl);
            ExFreePool(mdl);
        }
    }
    RULE("MmAllocatePagesForMdlEx function", "NULL where the length is no multiple of the chunks") {
        EXPECT_EQ(MmAllocatePagesForMdlEx(at(0), at(-1), at(4 * PAGE_SIZE), 6 * PAGE_SIZE, MmCached, MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS), NULL);
    }
}

static void check_physical(void)
{
    PHYSICAL_MEMORY_RANGE *ranges;
    PUCHAR page = ExAllocatePoolWithTag(NonPagedPool, PAGE_SIZE, 'prMX');
    LONGLONG physical = MmGetPhysicalAddress(page).QuadPart;
    int inside = 0;

    RULE("MmGetPhysicalMemoryRanges function", "ranges of whole pages, ended by zeros; memory lies in one of them") {
        ranges = MmGetPhysicalMemoryRanges();
        EXPECT(ranges != NULL);
        for (int i = 0; ranges && ranges[i].NumberOfBytes.QuadPart; i++) {
            LONGLONG first = ranges[i].BaseAddress.QuadPart;
            EXPECT(first % PAGE_SIZE == 0 && ranges[i].NumberOfBytes.QuadPart % PAGE_SIZE == 0);
            inside += physical >= first && physical < first + ranges[i].NumberOfBytes.QuadPart;
        }
        EXPECT_EQ(inside, 1);
        ExFreePool(ranges);
    }
    RULE("MmGetVirtualForPhysical function", "an address that leads to the physical one") {
        EXPECT_EQ(MmGetVirtualForPhysical(at(physical + 12)), page + 12);
    }
    RULE("MmProbeAndLockProcessPages function", "locks the pages of a process") {
        PMDL mdl = IoAllocateMdl(page, PAGE_SIZE, FALSE, FALSE, NULL);
        MmProbeAndLockProcessPages(mdl, PsInitialSystemProcess, KernelMode, IoWriteAccess);
        EXPECT(mdl->MdlFlags & MDL_PAGES_LOCKED);
        EXPECT_EQ(MmGetMdlPfnArray(mdl)[0], physical / PAGE_SIZE);
        MmUnlockPages(mdl);
        EXPECT(!(mdl->MdlFlags & MDL_PAGES_LOCKED));
        IoFreeMdl(mdl);
    }
    RULE("MmGetSystemRoutineAddress function", "routines of the HAL too; NULL for an empty name") {
        UNICODE_STRING name;
        RtlInitUnicodeString(&name, L"KeStallExecutionProcessor");
        EXPECT(MmGetSystemRoutineAddress(&name) != NULL);
        RtlInitUnicodeString(&name, L"kestallexecutionprocessor");
        EXPECT_EQ(MmGetSystemRoutineAddress(&name), NULL);
        RtlInitUnicodeString(&name, L"");
        EXPECT_EQ(MmGetSystemRoutineAddress(&name), NULL);
    }
    ExFreePoolWithTag(page, 'prMX');
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    check_partial();
    check_user();
    check_chunks();
    check_physical();
}

SUITE("mm_parts")
