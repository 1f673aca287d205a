/*
 * Run-down protection that is aware of caches, and resources whose owner is not the thread that acquired them.
 */
#include "check.h"

static KEVENT about_to_wait;
static LONG run_down;

static VOID NTAPI runs_down(PVOID reference)
{
    KeSetEvent(&about_to_wait, IO_NO_INCREMENT, FALSE);
    ExWaitForRundownProtectionReleaseCacheAware(reference);
    InterlockedIncrement(&run_down);
}

static void rundown(void)
{
    PEX_RUNDOWN_REF_CACHE_AWARE reference = ExAllocateCacheAwareRundownProtection(NonPagedPool, 'nuRC');
    PKTHREAD thread;

    KeInitializeEvent(&about_to_wait, NotificationEvent, FALSE);
    RULE("ExAllocateCacheAwareRundownProtection function", "a reference, initialized: protection can be acquired") {
        EXPECT(reference != NULL);
        if (!reference)
            return;
        EXPECT_EQ(ExAcquireRundownProtectionCacheAware(reference), TRUE);
        EXPECT_EQ(ExAcquireRundownProtectionCacheAwareEx(reference, 3), TRUE);
        ExReleaseRundownProtectionCacheAwareEx(reference, 3);
    }
    RULE("ExAcquireRundownProtectionCacheAware function", "IRQL <= DISPATCH_LEVEL") {
        KIRQL irql;
        BOOLEAN acquired;
        KeRaiseIrql(DISPATCH_LEVEL, &irql);
        acquired = ExAcquireRundownProtectionCacheAware(reference);
        if (acquired)
            ExReleaseRundownProtectionCacheAware(reference);
        KeLowerIrql(irql);
        EXPECT_EQ(acquired, TRUE);
    }
    RULE("ExWaitForRundownProtectionReleaseCacheAware function", "waits for what was acquired, and lets nobody in meanwhile") {
        thread = start_thread(runs_down, reference);
        EXPECT(thread != NULL);
        if (!thread)
            continue;
        KeWaitForSingleObject(&about_to_wait, Executive, KernelMode, FALSE, NULL);
        sleep_us(20000);
        EXPECT_EQ(run_down, 0);
        EXPECT_EQ(ExAcquireRundownProtectionCacheAware(reference), FALSE);
        ExReleaseRundownProtectionCacheAware(reference);
        join_thread(thread);
        EXPECT_EQ(run_down, 1);
    }
    RULE("ExAcquireRundownProtectionCacheAwareEx function", "FALSE once the run-down is over") {
        ExRundownCompletedCacheAware(reference);
        EXPECT_EQ(ExAcquireRundownProtectionCacheAwareEx(reference, 2), FALSE);
    }
    RULE("ExReInitializeRundownProtectionCacheAware function", "protection can be acquired again") {
        ExReInitializeRundownProtectionCacheAware(reference);
        EXPECT_EQ(ExAcquireRundownProtectionCacheAware(reference), TRUE);
        ExReleaseRundownProtectionCacheAware(reference);
    }
    ExFreeCacheAwareRundownProtection(reference);
    RULE("ExInitializeRundownProtectionCacheAware function", "in the driver's own memory, of the size told") {
        SIZE_T size = ExSizeOfRundownProtectionCacheAware();
        PEX_RUNDOWN_REF_CACHE_AWARE own = ExAllocatePoolWithTag(NonPagedPool, size, 'nuRC');
        EXPECT(size >= sizeof(PVOID));
        EXPECT(own != NULL);
        if (!own)
            continue;
        RtlFillMemory(own, size, 0xA5);
        ExInitializeRundownProtectionCacheAware(own, size);
        EXPECT_EQ(ExAcquireRundownProtectionCacheAware(own), TRUE);
        ExReleaseRundownProtectionCacheAware(own);
        ExWaitForRundownProtectionReleaseCacheAware(own);
        EXPECT_EQ(ExAcquireRundownProtectionCacheAware(own), FALSE);
        ExFreePoolWithTag(own, 'nuRC');
    }
}

static ERESOURCE resource;

static VOID NTAPI releases(PVOID owner)
{
    KeEnterCriticalRegion();
    ExReleaseResourceForThreadLite(&resource, (ERESOURCE_THREAD)owner);
    KeLeaveCriticalRegion();
}

static void owners(void)
{
    PVOID owner = (PVOID)((ULONG_PTR)&resource | 3);
    PKTHREAD thread;

    ExInitializeResourceLite(&resource);
    RULE("ExSetResourceOwnerPointer function", "the thread does not have the resource any more, and it is not free") {
        KeEnterCriticalRegion();
        EXPECT_EQ(ExAcquireResourceSharedLite(&resource, TRUE), TRUE);
        ExSetResourceOwnerPointer(&resource, owner);
        EXPECT_EQ(ExIsResourceAcquiredSharedLite(&resource), 0);
        EXPECT_EQ(ExAcquireResourceExclusiveLite(&resource, FALSE), FALSE);
        KeLeaveCriticalRegion();
    }
    RULE("ExReleaseResourceForThreadLite function", "any thread may release what an owner pointer has") {
        thread = start_thread(releases, owner);
        EXPECT(thread != NULL);
        if (!thread)
            continue;
        join_thread(thread);
        KeEnterCriticalRegion();
        EXPECT_EQ(ExAcquireResourceExclusiveLite(&resource, FALSE), TRUE);
        ExReleaseResourceLite(&resource);
        KeLeaveCriticalRegion();
    }
    RULE("ExSetResourceOwnerPointerEx function", "exclusive access stays exclusive") {
        KeEnterCriticalRegion();
        EXPECT_EQ(ExAcquireResourceExclusiveLite(&resource, TRUE), TRUE);
        ExSetResourceOwnerPointerEx(&resource, owner, 0);
        EXPECT_EQ(ExIsResourceAcquiredExclusiveLite(&resource), FALSE);
        EXPECT_EQ(ExAcquireResourceSharedLite(&resource, FALSE), FALSE);
        ExReleaseResourceForThreadLite(&resource, (ERESOURCE_THREAD)owner);
        EXPECT_EQ(ExAcquireResourceSharedLite(&resource, FALSE), TRUE);
        ExReleaseResourceLite(&resource);
        KeLeaveCriticalRegion();
    }
    RULE("ExEnterCriticalRegionAndAcquireSharedWaitForExclusive function", "shared access, in a critical region") {
        ExEnterCriticalRegionAndAcquireSharedWaitForExclusive(&resource);
        EXPECT_EQ(ExIsResourceAcquiredSharedLite(&resource), 1);
        EXPECT_EQ(KeAreApcsDisabled(), TRUE);
        ExReleaseResourceAndLeaveCriticalRegion(&resource);
        EXPECT_EQ(KeAreApcsDisabled(), FALSE);
        EXPECT_EQ(ExIsResourceAcquiredSharedLite(&resource), 0);
    }
    RULE("ExDisableResourceBoostLite function", "the resource is used as before") {
        ExDisableResourceBoostLite(&resource);
        ExEnterCriticalRegionAndAcquireResourceExclusive(&resource);
        EXPECT_EQ(ExIsResourceAcquiredExclusiveLite(&resource), TRUE);
        ExReleaseResourceAndLeaveCriticalRegion(&resource);
    }
    ExDeleteResourceLite(&resource);
    RULE("ExVerifySuite function", "as RtlGetVersion's suite mask says") {
        RTL_OSVERSIONINFOEXW version = { .dwOSVersionInfoSize = sizeof(version) };
        int suite;
        EXPECT_STATUS(RtlGetVersion((PRTL_OSVERSIONINFOW)&version), STATUS_SUCCESS);
        for (suite = 0; suite < 16; suite++)
            EXPECT_EQ(ExVerifySuite((SUITE_TYPE)suite), (version.wSuiteMask >> suite) & 1);
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    rundown();
    owners();
}

SUITE("Rundown")
