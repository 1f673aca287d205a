// build: -Wno-unused-function
/*
 * A driver that is told of images: each one's name and place goes to the debug port, as "listener: NAME ...". Unload takes the
 * routine back; in listener_left.c it does not.
 */
#include "check.h"

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
#endif
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    driver->DriverUnload = unload;
    PsSetLoadImageNotifyRoutine(image_notify);
}

SUITE("Listener")
