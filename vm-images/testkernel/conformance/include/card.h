/*
 * The sampling card's registers, and its interrupt on an ISA bus: docs/joints.md, "The register map".
 *
 * A driver finds IoPortBase and InterruptLine under its Parameters key.
 */
#ifndef SQUALL_CARD_H
#define SQUALL_CARD_H

#include <ntddk.h>

#define CARD_IDENT 0x00
#define CARD_CONTROL 0x04
#define CARD_STATUS 0x08
#define CARD_FIFO_DATA 0x0C
#define CARD_FIFO_LEVEL 0x10
#define CARD_SEQUENCE 0x14

#define CARD_SIGNATURE 0x4C4C5153u
#define CARD_IRQ_ENABLE 1u
#define CARD_RESET 0x80000000u
#define CARD_SAMPLE_READY 1u

/* 64-bit headers hide it, and HAL.dll has it. */
__declspec(dllimport) ULONG NTAPI HalGetInterruptVector(INTERFACE_TYPE type, ULONG bus, ULONG level, ULONG vector,
                                                        PKIRQL irql, PKAFFINITY affinity);

typedef struct _CARD {
    ULONG base;
    ULONG line;
    PKINTERRUPT interrupt;
} CARD;

static inline ULONG card_read(const CARD *card, ULONG offset)
{
    return READ_PORT_ULONG((PULONG)(ULONG_PTR)(card->base + offset));
}

static inline void card_write(const CARD *card, ULONG offset, ULONG value)
{
    WRITE_PORT_ULONG((PULONG)(ULONG_PTR)(card->base + offset), value);
}

/* Reads the parameters and looks whether the card is there. */
static inline NTSTATUS card_find(CARD *card, PUNICODE_STRING path)
{
    RTL_QUERY_REGISTRY_TABLE table[4];
    ULONG base = 0x300, line = 5;
    NTSTATUS status;
    PWSTR key = ExAllocatePoolWithTag(PagedPool, path->Length + sizeof(WCHAR), 'draC');

    if (!key)
        return STATUS_INSUFFICIENT_RESOURCES;
    RtlCopyMemory(key, path->Buffer, path->Length);
    key[path->Length / sizeof(WCHAR)] = 0;
    RtlZeroMemory(table, sizeof(table));
    table[0].Flags = RTL_QUERY_REGISTRY_SUBKEY;
    table[0].Name = (PWSTR)L"Parameters";
    table[1].Flags = RTL_QUERY_REGISTRY_DIRECT;
    table[1].Name = (PWSTR)L"IoPortBase";
    table[1].EntryContext = &card->base;
    table[1].DefaultType = REG_DWORD;
    table[1].DefaultData = &base;
    table[1].DefaultLength = sizeof(base);
    table[2] = table[1];
    table[2].Name = (PWSTR)L"InterruptLine";
    table[2].EntryContext = &card->line;
    table[2].DefaultData = &line;
    status = RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, key, table, NULL, NULL);
    ExFreePoolWithTag(key, 'draC');
    if (!NT_SUCCESS(status))
        return status;
    return card_read(card, CARD_IDENT) == CARD_SIGNATURE ? STATUS_SUCCESS : STATUS_NO_SUCH_DEVICE;
}

/* Connects the interrupt the way that drivers for ISA cards have always done. */
static inline NTSTATUS card_connect(CARD *card, PKSERVICE_ROUTINE routine, PVOID context)
{
    KAFFINITY affinity = 0;
    KIRQL irql = 0;
    ULONG vector = HalGetInterruptVector(Isa, 0, card->line, card->line, &irql, &affinity);

    return IoConnectInterrupt(&card->interrupt, routine, context, NULL, vector, irql, irql, Latched, FALSE, affinity,
                              FALSE);
}

static inline void card_enable(const CARD *card)
{
    card_write(card, CARD_CONTROL, CARD_RESET);
    card_write(card, CARD_CONTROL, CARD_IRQ_ENABLE);
}

/* First of all in Unload: no interrupt comes any more, and none is being served when this returns. */
static inline void card_disconnect(CARD *card)
{
    card_write(card, CARD_CONTROL, 0);
    IoDisconnectInterrupt(card->interrupt);
}

/* In an ISR: whether the interrupt is the card's, which is then acknowledged. */
static inline BOOLEAN card_acknowledge(const CARD *card)
{
    if (!(card_read(card, CARD_STATUS) & CARD_SAMPLE_READY))
        return FALSE;
    card_write(card, CARD_STATUS, CARD_SAMPLE_READY);
    return TRUE;
}

/* A device object with its name for programs. */
static inline NTSTATUS create_device(PDRIVER_OBJECT driver, PCWSTR name, PCWSTR link, ULONG extension,
                                     PDEVICE_OBJECT *device)
{
    UNICODE_STRING device_name, link_name;
    NTSTATUS status;

    RtlInitUnicodeString(&device_name, name);
    RtlInitUnicodeString(&link_name, link);
    status = IoCreateDevice(driver, extension, &device_name, FILE_DEVICE_UNKNOWN, FILE_DEVICE_SECURE_OPEN, FALSE, device);
    if (!NT_SUCCESS(status))
        return status;
    status = IoCreateSymbolicLink(&link_name, &device_name);
    if (!NT_SUCCESS(status))
        IoDeleteDevice(*device);
    return status;
}

static inline void delete_device(PDEVICE_OBJECT device, PCWSTR link)
{
    UNICODE_STRING link_name;

    RtlInitUnicodeString(&link_name, link);
    IoDeleteSymbolicLink(&link_name);
    IoDeleteDevice(device);
}

static inline NTSTATUS complete(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
    irp->IoStatus.Status = status;
    irp->IoStatus.Information = information;
    IoCompleteRequest(irp, NT_SUCCESS(status) ? IO_SERIAL_INCREMENT : IO_NO_INCREMENT);
    return status;
}

static inline NTSTATUS NTAPI succeed(PDEVICE_OBJECT device, PIRP irp)
{
    return complete(irp, STATUS_SUCCESS, 0);
}

#endif
