/* Objects: who refers to them, of which type they are, what a handle gives. */
#include <check.h>

static KEVENT turn[2];
static PVOID seen_thread;
static LONG_PTR counts[2];

static VOID NTAPI counted(PVOID context)
{
    (void)context;
    seen_thread = KeGetCurrentThread();
    KeSetEvent(&turn[0], 0, FALSE);
    KeWaitForSingleObject(&turn[1], Executive, KernelMode, FALSE, NULL);
    counts[0] = ObReferenceObject(KeGetCurrentThread());
    counts[1] = ObDereferenceObject(KeGetCurrentThread());
}

static void threads(void)
{
    RULE("ObReferenceObject macro", "the thread that DriverEntry runs in is an object as any other") {
        PVOID thread = KeGetCurrentThread();
        LONG_PTR count = ObReferenceObject(thread);
        EXPECT(count >= 2);
        EXPECT_EQ(ObDereferenceObject(thread), count - 1);
    }
    RULE("ObReferenceObjectByPointer function", "STATUS_SUCCESS for an object of the type") {
        EXPECT_STATUS(ObReferenceObjectByPointer(KeGetCurrentThread(), 0, *PsThreadType, KernelMode), STATUS_SUCCESS);
        ObDereferenceObject(KeGetCurrentThread());
        EXPECT_STATUS(ObReferenceObjectByPointer(PsGetCurrentProcess(), 0, *PsProcessType, KernelMode), STATUS_SUCCESS);
        ObDereferenceObject(PsGetCurrentProcess());
    }
    RULE("ObReferenceObjectByPointer function", "STATUS_OBJECT_TYPE_MISMATCH for one of another type") {
        EXPECT_STATUS(ObReferenceObjectByPointer(KeGetCurrentThread(), 0, *IoFileObjectType, KernelMode),
                      STATUS_OBJECT_TYPE_MISMATCH);
        EXPECT_STATUS(ObReferenceObjectByPointer(PsGetCurrentProcess(), 0, *PsThreadType, KernelMode),
                      STATUS_OBJECT_TYPE_MISMATCH);
    }
    RULE("ObReferenceObject macro", "a thread is an object until it ends, also when its handle is closed") {
        HANDLE handle;
        PVOID thread = NULL;
        KeInitializeEvent(&turn[0], SynchronizationEvent, FALSE);
        KeInitializeEvent(&turn[1], SynchronizationEvent, FALSE);
        EXPECT_STATUS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, counted, NULL), STATUS_SUCCESS);
        KeWaitForSingleObject(&turn[0], Executive, KernelMode, FALSE, NULL);
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, &thread, NULL),
                      STATUS_SUCCESS);
        EXPECT(thread == seen_thread);
        EXPECT_STATUS(ZwClose(handle), STATUS_SUCCESS);
        KeSetEvent(&turn[1], 0, FALSE);
        EXPECT_STATUS(KeWaitForSingleObject(thread, Executive, KernelMode, FALSE, NULL), STATUS_SUCCESS);
        EXPECT(counts[0] == counts[1] + 1 && counts[1] >= 1);
        ObDereferenceObject(thread);
    }
    RULE("PsLookupThreadByThreadId function", "finds a thread by its number, with a reference") {
        PETHREAD thread = NULL;
        EXPECT_STATUS(PsLookupThreadByThreadId(PsGetCurrentThreadId(), &thread), STATUS_SUCCESS);
        EXPECT((PVOID)thread == (PVOID)KeGetCurrentThread());
        if (thread)
            ObDereferenceObject(thread);
        EXPECT(!NT_SUCCESS(PsLookupThreadByThreadId((HANDLE)0x7FFFFFF0, &thread)));
    }
    RULE("PsLookupProcessByProcessId function", "finds the process, with a reference") {
        PEPROCESS process = NULL;
        EXPECT_STATUS(PsLookupProcessByProcessId(PsGetCurrentProcessId(), &process), STATUS_SUCCESS);
        EXPECT((PVOID)process == (PVOID)PsGetCurrentProcess());
        if (process)
            ObDereferenceObject(process);
        EXPECT(!NT_SUCCESS(PsLookupProcessByProcessId((HANDLE)0x7FFFFFF0, &process)));
    }
    RULE("PsInitialSystemProcess", "is the process of system threads") {
        EXPECT((PVOID)PsInitialSystemProcess == (PVOID)PsGetCurrentProcess());
        EXPECT((PVOID)IoGetCurrentProcess() == (PVOID)PsInitialSystemProcess);
        EXPECT_EQ(PsGetCurrentProcessId(), 4);
    }
}

static VOID NTAPI nothing(PVOID context)
{
    (void)context;
}

static void handles(void)
{
    HANDLE handle;
    PVOID object;
    OBJECT_HANDLE_INFORMATION information;

    if (!NT_SUCCESS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, nothing, NULL)))
        return;
    RULE("ObReferenceObjectByHandle function", "STATUS_OBJECT_TYPE_MISMATCH where the handle is of another type") {
        object = &handle;
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, *ExEventObjectType, KernelMode, &object, NULL),
                      STATUS_OBJECT_TYPE_MISMATCH);
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, *IoFileObjectType, KernelMode, &object, NULL),
                      STATUS_OBJECT_TYPE_MISMATCH);
    }
    RULE("ObReferenceObjectByHandle function", "any type where none is given; tells what the handle grants") {
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, NULL, KernelMode, &object, &information), STATUS_SUCCESS);
        EXPECT(information.GrantedAccess != 0);
        ObDereferenceObject(object);
    }
    RULE("ObReferenceObjectByHandle function", "STATUS_INVALID_HANDLE for what is no handle") {
        EXPECT_STATUS(ObReferenceObjectByHandle((HANDLE)0x12344, 0, NULL, KernelMode, &object, NULL),
                      STATUS_INVALID_HANDLE);
    }
    RULE("ObReferenceObjectByHandle function", "the current thread's pseudo handle is the current thread") {
        EXPECT_STATUS(ObReferenceObjectByHandle(NtCurrentThread(), 0, *PsThreadType, KernelMode, &object, NULL),
                      STATUS_SUCCESS);
        EXPECT(object == (PVOID)KeGetCurrentThread());
        ObDereferenceObject(object);
    }
    RULE("ObOpenObjectByPointer function", "a handle for an object that is referred to") {
        HANDLE second = NULL;
        PVOID again = NULL;
        ObReferenceObjectByHandle(handle, 0, *PsThreadType, KernelMode, &object, NULL);
        EXPECT_STATUS(ObOpenObjectByPointer(object, OBJ_KERNEL_HANDLE, NULL, 0, *PsThreadType, KernelMode, &second),
                      STATUS_SUCCESS);
        EXPECT(second != handle && second != NULL);
        EXPECT_STATUS(ObReferenceObjectByHandle(second, 0, *PsThreadType, KernelMode, &again, NULL), STATUS_SUCCESS);
        EXPECT(again == object);
        ObDereferenceObject(again);
        EXPECT_STATUS(ZwClose(second), STATUS_SUCCESS);
        EXPECT_STATUS(ObOpenObjectByPointer(object, OBJ_KERNEL_HANDLE, NULL, 0, *IoFileObjectType, KernelMode, &second),
                      STATUS_OBJECT_TYPE_MISMATCH);
        ObDereferenceObject(object);
    }
    ZwClose(handle);
    RULE("ZwClose function", "STATUS_INVALID_HANDLE for a handle that is closed") {
        EXPECT_STATUS(ObReferenceObjectByHandle(handle, 0, NULL, KernelMode, &object, NULL), STATUS_INVALID_HANDLE);
    }
}

static void types(void)
{
    RULE("POBJECT_TYPE", "every kind has a type of its own") {
        POBJECT_TYPE all[] = { *CmKeyObjectType, *ExEventObjectType, *ExSemaphoreObjectType, *IoFileObjectType, *PsThreadType,
                               *PsProcessType };
        unsigned i, j;
        for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
            EXPECT(all[i] != NULL);
            for (j = 0; j < i; j++)
                EXPECT(all[i] != all[j]);
        }
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)driver;
    (void)path;
    threads();
    handles();
    types();
}

SUITE("Objects")
