// build: -Wno-unused-function -Wl,--forceinteg
/*
 * A driver that is told of images: each one's name and place goes to the debug port, as "listener: NAME ...". It is asked, too, before a
 * handle for a thread is given. Unload takes both routines back; in listener_left.c it does not.
 */
#include "check.h"

static PVOID asked;

static OB_PREOP_CALLBACK_STATUS NTAPI before_a_handle(PVOID context, POB_PRE_OPERATION_INFORMATION operation)
{
    return OB_PREOP_SUCCESS;
}

static void ask_before_a_handle(void)
{
    OB_OPERATION_REGISTRATION threads = {PsThreadType, OB_OPERATION_HANDLE_CREATE, before_a_handle, NULL};
    OB_CALLBACK_REGISTRATION registration = {OB_FLT_REGISTRATION_VERSION, 1, RTL_CONSTANT_STRING(L"1000"), NULL, &threads};
    ObRegisterCallbacks(&registration, &asked);
}

static VOID NTAPI image_notify(PUNICODE_STRING name, HANDLE process, PIMAGE_INFO info)
{
    const UCHAR *image = info->ImageBase;
    USHORT i;
    check_text("listener: ");
    for (i = 0; name && i < name->Length / sizeof(WCHAR); i++)
        check_char((char)name->Buffer[i]);
    check_text(" process ");
    check_hex((ULONG_PTR)process);
    check_text(info->SystemModeImage ? " system" : " user");
    check_text(info->ImageSize && image[0] == 'M' && image[1] == 'Z' ? " mapped" : " absent");
    check_text(KeGetCurrentIrql() == PASSIVE_LEVEL ? " passive\n" : " raised\n");
    check_flush();
}

static VOID NTAPI unload(PDRIVER_OBJECT driver)
{
#ifndef LEAVE
    PsRemoveLoadImageNotifyRoutine(image_notify);
    ObUnRegisterCallbacks(asked);
#endif
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    driver->DriverUnload = unload;
    PsSetLoadImageNotifyRoutine(image_notify);
    ask_before_a_handle();
}

SUITE("Listener")
