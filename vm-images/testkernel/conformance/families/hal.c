/* The hardware abstraction layer: configuration space, claims, vectors, bus addresses, DMA adapters, ports and registers. */
#include <check.h>

#define CMOS_INDEX ((PUCHAR)0x70)
#define CMOS_DATA ((PUCHAR)0x71)
#define PCI_INDEX ((PULONG)0xCF8)
#define PCI_DATA 0xCFC

/* The headers hide them from 64-bit drivers; HAL.dll has them all the same. */
__declspec(dllimport) ULONG NTAPI HalGetInterruptVector(INTERFACE_TYPE type, ULONG bus, ULONG level, ULONG vector,
                                                        PKIRQL irql, PKAFFINITY affinity);
__declspec(dllimport) ULONG NTAPI HalGetBusData(BUS_DATA_TYPE type, ULONG bus, ULONG slot, PVOID buffer, ULONG length);
__declspec(dllimport) ULONG NTAPI HalSetBusData(BUS_DATA_TYPE type, ULONG bus, ULONG slot, PVOID buffer, ULONG length);
__declspec(dllimport) NTSTATUS NTAPI HalAssignSlotResources(PUNICODE_STRING path, PUNICODE_STRING class,
                                                            PDRIVER_OBJECT driver, PDEVICE_OBJECT device,
                                                            INTERFACE_TYPE type, ULONG bus, ULONG slot,
                                                            PCM_RESOURCE_LIST *allocated);

static PDRIVER_OBJECT self;

/* The first function of bus 0 that `wanted` likes; its slot. */
static int find_function(PPCI_COMMON_CONFIG config, PCI_SLOT_NUMBER *slot, int (*wanted)(const PCI_COMMON_CONFIG *))
{
    for (ULONG device = 0; device < 32; device++) {
        for (ULONG function = 0; function < 8; function++) {
            slot->u.AsULONG = 0;
            slot->u.bits.DeviceNumber = device;
            slot->u.bits.FunctionNumber = function;
            if (HalGetBusData(PCIConfiguration, 0, slot->u.AsULONG, config, PCI_COMMON_HDR_LENGTH) == PCI_COMMON_HDR_LENGTH
                && wanted(config))
                return 1;
        }
    }
    return 0;
}

static int any(const PCI_COMMON_CONFIG *config)
{
    return config->VendorID != PCI_INVALID_VENDORID;
}

static int has_range(const PCI_COMMON_CONFIG *config)
{
    if (PCI_CONFIGURATION_TYPE(config) != PCI_DEVICE_TYPE || config->BaseClass == PCI_CLASS_BRIDGE_DEV)
        return 0;
    for (int bar = 0; bar < PCI_TYPE0_ADDRESSES; bar++)
        if (config->u.type0.BaseAddresses[bar] & ~0xFu)
            return 1;
    return 0;
}

static void configuration_space(void)
{
    PCI_COMMON_CONFIG config, again;
    PCI_SLOT_NUMBER slot, empty;
    UCHAR bytes[2 * sizeof(PCI_COMMON_CONFIG)];

    empty.u.AsULONG = 0;
    empty.u.bits.DeviceNumber = 31;
    empty.u.bits.FunctionNumber = 7;
    RULE("HalGetBusData function", "finds the functions of bus 0; the bytes that were read") {
        EXPECT(find_function(&config, &slot, any));
        RtlFillMemory(&again, sizeof(again), 0xEE);
        EXPECT_EQ(HalGetBusData(PCIConfiguration, 0, slot.u.AsULONG, &again, 4), 4);
        EXPECT(again.VendorID == config.VendorID && again.DeviceID == config.DeviceID);
        EXPECT_EQ(again.Command, 0xEEEE);
    }
    RULE("HalGetBusData function", "2, and PCI_INVALID_VENDORID, where nobody is in the slot") {
        RtlFillMemory(&again, sizeof(again), 0xEE);
        EXPECT_EQ(HalGetBusData(PCIConfiguration, 0, empty.u.AsULONG, &again, sizeof(again)), 2);
        EXPECT_EQ(again.VendorID, PCI_INVALID_VENDORID);
    }
    RULE("HalGetBusData function", "0 where there is no such bus") {
        EXPECT_EQ(HalGetBusData(PCIConfiguration, 255, 0, &again, sizeof(again)), 0);
    }
    RULE("HalGetBusDataByOffset function", "PCIConfiguration is the only kind of bus data; any other is obsolete") {
        EXPECT_EQ(HalGetBusDataByOffset(EisaConfiguration, 0, 0, bytes, 0, 16), 0);
        EXPECT_EQ(HalGetBusDataByOffset(Pos, 0, 0, bytes, 0, 16), 0);
    }
    RULE("HalGetBusDataByOffset function", "touches nothing outside offset and length, be it a single byte") {
        for (ULONG offset = 0; offset < 16; offset++) {
            for (ULONG length = 1; length <= 8; length++) {
                RtlFillMemory(bytes, sizeof(bytes), 0xEE);
                EXPECT_EQ(HalGetBusDataByOffset(PCIConfiguration, 0, slot.u.AsULONG, bytes + 1, offset, length), length);
                EXPECT(RtlCompareMemory(bytes + 1, (PUCHAR)&config + offset, length) == length);
                EXPECT(bytes[0] == 0xEE && bytes[1 + length] == 0xEE);
            }
        }
    }
    RULE("HalGetBusDataByOffset function", "the length that was read: no more than there is") {
        EXPECT_EQ(HalGetBusDataByOffset(PCIConfiguration, 0, slot.u.AsULONG, bytes, 252, 16), 4);
    }
    RULE("HalSetBusDataByOffset function", "writes that many bytes, and only them") {
        ULONG line = FIELD_OFFSET(PCI_COMMON_CONFIG, u.type0.InterruptLine);
        UCHAR before[4], after[4], value = 0x5A;
        EXPECT(find_function(&config, &slot, has_range));
        HalGetBusDataByOffset(PCIConfiguration, 0, slot.u.AsULONG, before, line, 4);
        EXPECT_EQ(HalSetBusDataByOffset(PCIConfiguration, 0, slot.u.AsULONG, &value, line, 1), 1);
        HalGetBusDataByOffset(PCIConfiguration, 0, slot.u.AsULONG, after, line, 4);
        EXPECT_EQ(after[0], 0x5A);
        EXPECT(after[1] == before[1] && after[2] == before[2] && after[3] == before[3]);
        EXPECT_EQ(HalSetBusDataByOffset(PCIConfiguration, 0, slot.u.AsULONG, before, line, 1), 1);
    }
    RULE("HalSetBusData function", "from the first register on; what is read-only stays as it is") {
        USHORT ids[2] = { (USHORT)~config.VendorID, (USHORT)~config.DeviceID };
        EXPECT_EQ(HalSetBusData(PCIConfiguration, 0, slot.u.AsULONG, ids, 4), 4);
        EXPECT_EQ(HalGetBusData(PCIConfiguration, 0, slot.u.AsULONG, &again, 4), 4);
        EXPECT(again.VendorID == config.VendorID && again.DeviceID == config.DeviceID);
    }
    RULE("HalSetBusDataByOffset function", "nothing is written where there is no bus, or nobody in the slot") {
        EXPECT_EQ(HalSetBusDataByOffset(PCIConfiguration, 255, 0, bytes, 0x3C, 1), 0);
        EXPECT_EQ(HalSetBusDataByOffset(PCIConfiguration, 0, empty.u.AsULONG, bytes, 0x3C, 1), 0);
        EXPECT_EQ(HalSetBusDataByOffset(EisaConfiguration, 0, 0, bytes, 0x3C, 1), 0);
    }
    RULE("HalGetBusData function", "works at DISPATCH_LEVEL as at PASSIVE_LEVEL") {
        KIRQL irql = KeRaiseIrqlToDpcLevel();
        ULONG read = HalGetBusData(PCIConfiguration, 0, slot.u.AsULONG, &again, PCI_COMMON_HDR_LENGTH);
        KeLowerIrql(irql);
        EXPECT_EQ(read, PCI_COMMON_HDR_LENGTH);
        EXPECT(RtlCompareMemory(&again, &config, 4) == 4);
    }
}

static void addresses(void)
{
    PHYSICAL_ADDRESS from = { .QuadPart = 0xFEC00000 }, to;
    ULONG space;

    RULE("HalTranslateBusAddress function", "memory of a PCI bus: the physical address to map, in memory space") {
        space = 0;
        to.QuadPart = 0;
        EXPECT(HalTranslateBusAddress(PCIBus, 0, from, &space, &to));
        EXPECT_EQ(space, 0);
        EXPECT_EQ(to.QuadPart, from.QuadPart);
    }
    RULE("HalTranslateBusAddress function", "ports of a PCI bus: the port to use, in I/O space") {
        from.QuadPart = 0xC000;
        space = 1;
        to.QuadPart = 0;
        EXPECT(HalTranslateBusAddress(PCIBus, 0, from, &space, &to));
        EXPECT_EQ(space, 1);
        EXPECT_EQ(to.QuadPart, 0xC000);
    }
    RULE("HalTranslateBusAddress function", "FALSE for a bus that the machine has not") {
        EXPECT(!HalTranslateBusAddress(PCIBus, 255, from, &space, &to));
        EXPECT(!HalTranslateBusAddress(Isa, 7, from, &space, &to));
        EXPECT(!HalTranslateBusAddress(MaximumInterfaceType, 0, from, &space, &to));
    }
}

static struct {
    volatile LONG calls;
    volatile LONG on_others;
    KIRQL irql;
    PKINTERRUPT object;
    PVOID context;
    KAFFINITY affinity;
    LONG synchronized;
} clock_chip;

static UCHAR cmos(UCHAR reg)
{
    WRITE_PORT_UCHAR(CMOS_INDEX, reg);
    return READ_PORT_UCHAR(CMOS_DATA);
}

static void cmos_set(UCHAR reg, UCHAR value)
{
    WRITE_PORT_UCHAR(CMOS_INDEX, reg);
    WRITE_PORT_UCHAR(CMOS_DATA, value);
}

/* The clock chip's interrupt is acknowledged by reading register C. */
static BOOLEAN NTAPI clock_isr(PKINTERRUPT interrupt, PVOID context)
{
    if (!(cmos(0x0C) & 0x80))
        return FALSE;
    clock_chip.irql = KeGetCurrentIrql();
    clock_chip.object = interrupt;
    clock_chip.context = context;
    if (!(clock_chip.affinity & ((KAFFINITY)1 << KeGetCurrentProcessorNumber())))
        InterlockedIncrement(&clock_chip.on_others);
    InterlockedIncrement(&clock_chip.calls);
    return TRUE;
}

static BOOLEAN NTAPI clock_periodic(PVOID on)
{
    UCHAR b = cmos(0x0B);
    clock_chip.synchronized = KeGetCurrentIrql();
    cmos_set(0x0B, on ? (UCHAR)(b | 0x40) : (UCHAR)(b & ~0x40));
    cmos(0x0C);
    return on != NULL;
}

static void interrupts(void)
{
    KIRQL irql = 0xFF, other = 0xFF;
    KAFFINITY affinity = 0, all = KeQueryActiveProcessors();
    PKINTERRUPT interrupt = NULL;
    ULONG vector = 0;

    RULE("HalGetInterruptVector function", "a vector for a line of the ISA bus, its DIRQL, and processors that there are") {
        vector = HalGetInterruptVector(Isa, 0, 8, 8, &irql, &affinity);
        EXPECT(vector != 0);
        EXPECT(irql > DISPATCH_LEVEL && irql < CLOCK_LEVEL);
        EXPECT(affinity != 0 && !(affinity & ~all));
    }
    RULE("HalGetInterruptVector function", "another line has another vector; the same line always the same") {
        KAFFINITY unused;
        EXPECT(HalGetInterruptVector(Isa, 0, 5, 5, &other, &unused) != vector);
        EXPECT_EQ(HalGetInterruptVector(Isa, 0, 8, 8, &other, &unused), vector);
        EXPECT_EQ(other, irql);
    }
    RULE("HalGetInterruptVector function", "0 where there is no such bus") {
        KAFFINITY unused;
        EXPECT_EQ(HalGetInterruptVector(PCIBus, 255, 11, 11, &other, &unused), 0);
        EXPECT_EQ(HalGetInterruptVector(Isa, 3, 5, 5, &other, &unused), 0);
    }
    clock_chip.affinity = affinity;
    RULE("IoConnectInterrupt function", "takes what HalGetInterruptVector gave") {
        EXPECT_STATUS(IoConnectInterrupt(&interrupt, clock_isr, &clock_chip, NULL, vector, irql, irql, Latched, FALSE,
                                         affinity, FALSE),
                      STATUS_SUCCESS);
        EXPECT(interrupt != NULL);
    }
    if (!interrupt)
        return;
    RULE("KeSynchronizeExecution function", "calls at the interrupt's DIRQL and returns what the routine does") {
        cmos_set(0x0A, (UCHAR)((cmos(0x0A) & 0xF0) | 0x06));
        EXPECT(KeSynchronizeExecution(interrupt, clock_periodic, (PVOID)1));
        EXPECT_EQ(clock_chip.synchronized, irql);
        EXPECT_PASSIVE();
    }
    RULE("KSERVICE_ROUTINE callback function", "is called at the DIRQL on those processors, with its object and context") {
        for (int i = 0; i < 2000 && clock_chip.calls < 10; i++)
            sleep_us(1000);
        EXPECT(clock_chip.calls >= 10);
        EXPECT_EQ(clock_chip.irql, irql);
        EXPECT(clock_chip.object == interrupt && clock_chip.context == &clock_chip);
        EXPECT_EQ(clock_chip.on_others, 0);
    }
    RULE("IoDisconnectInterrupt function", "no call comes after it has returned") {
        LONG calls;
        EXPECT(!KeSynchronizeExecution(interrupt, clock_periodic, NULL));
        IoDisconnectInterrupt(interrupt);
        calls = clock_chip.calls;
        sleep_us(5000);
        EXPECT_EQ(clock_chip.calls, calls);
    }
    RULE("IoConnectInterrupt function", "STATUS_INVALID_PARAMETER for a vector that is none") {
        interrupt = NULL;
        EXPECT_STATUS(IoConnectInterrupt(&interrupt, clock_isr, NULL, NULL, 0, irql, irql, Latched, FALSE, affinity, FALSE),
                      STATUS_INVALID_PARAMETER);
    }
    RULE("IoReportDetectedDevice function", "the device's translated resources are what HalGetInterruptVector says") {
        CM_RESOURCE_LIST raw;
        PCM_RESOURCE_LIST translated = ExAllocatePoolWithTag(PagedPool, 256, 'fnoC');
        PCM_PARTIAL_RESOURCE_DESCRIPTOR line = &raw.List[0].PartialResourceList.PartialDescriptors[0];
        PDEVICE_OBJECT device = NULL;
        ULONG length = 0;
        RtlZeroMemory(&raw, sizeof(raw));
        raw.Count = 1;
        raw.List[0].InterfaceType = Isa;
        raw.List[0].PartialResourceList.Version = raw.List[0].PartialResourceList.Revision = 1;
        raw.List[0].PartialResourceList.Count = 1;
        line->Type = CmResourceTypeInterrupt;
        line->ShareDisposition = CmResourceShareDeviceExclusive;
        line->Flags = CM_RESOURCE_INTERRUPT_LATCHED;
        line->u.Interrupt.Level = line->u.Interrupt.Vector = 8;
        line->u.Interrupt.Affinity = (KAFFINITY)-1;
        EXPECT_STATUS(IoReportDetectedDevice(self, Isa, 0, (ULONG)-1, &raw, NULL, TRUE, &device), STATUS_SUCCESS);
        EXPECT(device != NULL);
        if (!device)
            continue;
        EXPECT_STATUS(IoGetDeviceProperty(device, DevicePropertyBootConfigurationTranslated, 256, translated, &length),
                      STATUS_SUCCESS);
        line = &translated->List[0].PartialResourceList.PartialDescriptors[0];
        EXPECT_EQ(line->u.Interrupt.Vector, vector);
        EXPECT_EQ(line->u.Interrupt.Level, irql);
        ExFreePool(translated);
    }
}

static CM_RESOURCE_LIST ports_at(ULONG port)
{
    CM_RESOURCE_LIST list;
    PCM_PARTIAL_RESOURCE_DESCRIPTOR range = &list.List[0].PartialResourceList.PartialDescriptors[0];

    RtlZeroMemory(&list, sizeof(list));
    list.Count = 1;
    list.List[0].InterfaceType = Isa;
    list.List[0].PartialResourceList.Version = list.List[0].PartialResourceList.Revision = 1;
    list.List[0].PartialResourceList.Count = 1;
    range->Type = CmResourceTypePort;
    range->ShareDisposition = CmResourceShareDriverExclusive;
    range->Flags = CM_RESOURCE_PORT_IO;
    range->u.Port.Start.QuadPart = port;
    range->u.Port.Length = 8;
    return list;
}

static NTSTATUS claim_ports(ULONG port, BOOLEAN override, PBOOLEAN conflict)
{
    CM_RESOURCE_LIST list = ports_at(port);
    return IoReportResourceUsage(NULL, self, &list, sizeof(list), NULL, NULL, 0, override, conflict);
}

static NTSTATUS release_claims(void)
{
    BOOLEAN conflict;
    return IoReportResourceUsage(NULL, self, NULL, 0, NULL, NULL, 0, FALSE, &conflict);
}

static NTSTATUS NTAPI count_value(PWSTR name, ULONG type, PVOID data, ULONG length, PVOID context, PVOID entry)
{
    ++*(ULONG *)context;
    return STATUS_SUCCESS;
}

/* The values that ResourceMap has of this driver: a raw and a translated one for each claim. */
static ULONG claims_in_map(void)
{
    static const WCHAR path[] = L"\\Registry\\Machine\\Hardware\\ResourceMap\\OtherDrivers";
    RTL_QUERY_REGISTRY_TABLE table[2];
    PCWSTR name = self->DriverName.Buffer + self->DriverName.Length / sizeof(WCHAR);
    ULONG count = 0;

    while (name[-1] != L'\\')
        name--;
    RtlZeroMemory(table, sizeof(table));
    table[0].QueryRoutine = count_value;
    table[0].Flags = RTL_QUERY_REGISTRY_SUBKEY;
    table[0].Name = (PWSTR)name;
    RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE | RTL_REGISTRY_OPTIONAL, path, table, &count, NULL);
    return count;
}

static void claims(void)
{
    BOOLEAN conflict = 9;
    PCI_COMMON_CONFIG config;
    PCI_SLOT_NUMBER slot, card = { .u.AsULONG = 0 };
    PCM_RESOURCE_LIST given = NULL;

    RULE("IoReportResourceUsage function", "claims what nobody else has, and says that there is no conflict") {
        EXPECT_STATUS(claim_ports(0x240, FALSE, &conflict), STATUS_SUCCESS);
        EXPECT_EQ(conflict, FALSE);
    }
    RULE("IoReportResourceUsage function", "a conflict is told; the claim stands only where it overrides") {
        EXPECT(!NT_SUCCESS(claim_ports(0x3F8, FALSE, &conflict)));
        EXPECT_EQ(conflict, TRUE);
        EXPECT_STATUS(claim_ports(0x3F8, TRUE, &conflict), STATUS_SUCCESS);
        EXPECT_EQ(conflict, TRUE);
    }
    RULE("IoReportResourceUsage function", "an empty list gives the claim back") {
        EXPECT_STATUS(release_claims(), STATUS_SUCCESS);
        EXPECT_STATUS(claim_ports(0x240, FALSE, &conflict), STATUS_SUCCESS);
        EXPECT_STATUS(release_claims(), STATUS_SUCCESS);
    }
    RULE("IoReportResourceUsage function", "a claim for a device leaves the driver's own standing, and the other way round") {
        CM_RESOURCE_LIST none = { 0 }, list = ports_at(0x260);
        PDEVICE_OBJECT device = NULL;
        EXPECT_STATUS(IoCreateDevice(self, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
        EXPECT_STATUS(claim_ports(0x240, FALSE, &conflict), STATUS_SUCCESS);
        EXPECT_EQ(claims_in_map(), 2);
        EXPECT_STATUS(IoReportResourceUsage(NULL, self, NULL, 0, device, &list, sizeof(list), FALSE, &conflict),
                      STATUS_SUCCESS);
        EXPECT_EQ(claims_in_map(), 4);
        EXPECT_STATUS(claim_ports(0x280, FALSE, &conflict), STATUS_SUCCESS);
        EXPECT_EQ(claims_in_map(), 4);
        EXPECT_STATUS(IoReportResourceUsage(NULL, self, NULL, 0, device, &none, sizeof(none), FALSE, &conflict),
                      STATUS_SUCCESS);
        EXPECT_EQ(claims_in_map(), 2);
        EXPECT_STATUS(release_claims(), STATUS_SUCCESS);
        EXPECT_EQ(claims_in_map(), 0);
        IoDeleteDevice(device);
    }
    RULE("HalAssignSlotResources function", "gives what the function of the slot has, in a list that is the driver's to free") {
        EXPECT(find_function(&config, &slot, has_range));
        card = slot;
        EXPECT_STATUS(HalAssignSlotResources(NULL, NULL, self, NULL, PCIBus, 0, slot.u.AsULONG, &given), STATUS_SUCCESS);
        EXPECT(given != NULL && given->Count == 1);
        if (!given)
            continue;
        EXPECT_EQ(given->List[0].InterfaceType, PCIBus);
        EXPECT(given->List[0].PartialResourceList.Count >= 1);
        EXPECT_STATUS(release_claims(), STATUS_SUCCESS);
        ExFreePool(given);
    }
    RULE("HalAssignSlotResources function", "fails where nobody is in the slot") {
        slot.u.AsULONG = 0;
        slot.u.bits.DeviceNumber = 31;
        slot.u.bits.FunctionNumber = 7;
        EXPECT(!NT_SUCCESS(HalAssignSlotResources(NULL, NULL, self, NULL, PCIBus, 0, slot.u.AsULONG, &given)));
    }
    RULE("IoAssignResources function", "finds a place within what is asked for; the list is the driver's to free") {
        IO_RESOURCE_REQUIREMENTS_LIST wanted;
        PIO_RESOURCE_DESCRIPTOR wish = &wanted.List[0].Descriptors[0];
        PCM_PARTIAL_RESOURCE_DESCRIPTOR range;
        RtlZeroMemory(&wanted, sizeof(wanted));
        wanted.ListSize = sizeof(wanted);
        wanted.InterfaceType = Isa;
        wanted.AlternativeLists = 1;
        wanted.List[0].Version = wanted.List[0].Revision = 1;
        wanted.List[0].Count = 1;
        wish->Type = CmResourceTypePort;
        wish->ShareDisposition = CmResourceShareDriverExclusive;
        wish->Flags = CM_RESOURCE_PORT_IO;
        wish->u.Port.Length = 8;
        wish->u.Port.Alignment = 8;
        wish->u.Port.MinimumAddress.QuadPart = 0x3F8;
        wish->u.Port.MaximumAddress.QuadPart = 0x41F;
        given = NULL;
        EXPECT_STATUS(IoAssignResources(NULL, NULL, self, NULL, &wanted, &given), STATUS_SUCCESS);
        if (!EXPECT(given != NULL))
            continue;
        range = &given->List[0].PartialResourceList.PartialDescriptors[0];
        EXPECT_EQ(range->Type, CmResourceTypePort);
        EXPECT_EQ(range->u.Port.Length, 8);
        EXPECT(range->u.Port.Start.QuadPart >= 0x400 && range->u.Port.Start.QuadPart + 8 <= 0x420);
        EXPECT_EQ(range->u.Port.Start.QuadPart & 7, 0);
        ExFreePool(given);
    }
    RULE("Calling IoAssignResources or HalAssignSlotResources", "a driver of several devices claims for one with no driver object") {
        PDEVICE_OBJECT device = NULL;
        EXPECT_STATUS(IoCreateDevice(self, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device), STATUS_SUCCESS);
        EXPECT_STATUS(HalAssignSlotResources(NULL, NULL, NULL, device, PCIBus, 0, card.u.AsULONG, &given), STATUS_SUCCESS);
        ExFreePool(given);
        EXPECT_STATUS(IoAssignResources(NULL, NULL, NULL, device, NULL, NULL), STATUS_SUCCESS);
        IoDeleteDevice(device);
    }
    RULE("IoAssignResources function", "no requirements: what was assigned is given back") {
        EXPECT_STATUS(IoAssignResources(NULL, NULL, self, NULL, NULL, &given), STATUS_SUCCESS);
    }
}

static void dma(void)
{
    DEVICE_DESCRIPTION description;
    PHYSICAL_ADDRESS logical;
    PADAPTER_OBJECT adapter = NULL;
    PUCHAR buffer = NULL;
    ULONG registers = 0;

    RtlZeroMemory(&description, sizeof(description));
    description.Version = DEVICE_DESCRIPTION_VERSION;
    description.Master = TRUE;
    description.InterfaceType = Isa;
    description.DmaWidth = Width16Bits;
    description.MaximumLength = 4 * PAGE_SIZE;
    RULE("IoGetDmaAdapter function", "an adapter of version 1 with a table of routines, and a number of map registers") {
        PDMA_ADAPTER modern = IoGetDmaAdapter(NULL, &description, &registers);
        EXPECT(modern != NULL);
        if (!modern)
            continue;
        EXPECT_EQ(modern->Version, 1);
        EXPECT(modern->DmaOperations != NULL && modern->DmaOperations->PutDmaAdapter != NULL);
        EXPECT(registers >= 4);
        modern->DmaOperations->PutDmaAdapter(modern);
    }
    RULE("IoGetDmaAdapter function", "the same for a PCI device that masters the bus with 64 address bits, by version 2") {
        DEVICE_DESCRIPTION second = description;
        PDMA_ADAPTER modern;
        second.Version = DEVICE_DESCRIPTION_VERSION2;
        second.InterfaceType = PCIBus;
        second.ScatterGather = second.Dma32BitAddresses = second.Dma64BitAddresses = TRUE;
        second.MaximumLength = 0x100000;
        modern = IoGetDmaAdapter(NULL, &second, &registers);
        if (!EXPECT(modern != NULL))
            continue;
        EXPECT(modern->DmaOperations->Size >= FIELD_OFFSET(DMA_OPERATIONS, BuildMdlFromScatterGatherList) + sizeof(PVOID));
        EXPECT(modern->DmaOperations->CalculateScatterGatherList && modern->DmaOperations->BuildScatterGatherList
               && modern->DmaOperations->BuildMdlFromScatterGatherList);
        EXPECT(modern->DmaOperations->GetDmaAlignment(modern) >= 1);
        modern->DmaOperations->PutDmaAdapter(modern);
    }
    /* HalGetAdapter gave way to IoGetDmaAdapter: the Verifier stops whoever calls it. */
    if (MmIsDriverVerifyingByAddress((PVOID)(ULONG_PTR)dma))
        return;
    RULE("HalGetAdapter function", "an adapter by the description alone") {
        adapter = HalGetAdapter(&description, &registers);
        EXPECT(adapter != NULL);
        EXPECT(registers >= 4);
    }
    if (!adapter)
        return;
    RULE("HalAllocateCommonBuffer function", "memory that the device reaches: below 16 MB on ISA, and contiguous") {
        buffer = HalAllocateCommonBuffer(adapter, 2 * PAGE_SIZE + 16, &logical, FALSE);
        EXPECT(buffer != NULL);
        EXPECT(logical.QuadPart + 2 * PAGE_SIZE + 16 <= 0x1000000);
        EXPECT_EQ(MmGetPhysicalAddress(buffer + 2 * PAGE_SIZE).QuadPart - MmGetPhysicalAddress(buffer).QuadPart,
                  2 * PAGE_SIZE);
        RtlFillMemory(buffer, 2 * PAGE_SIZE + 16, 0xA5);
        EXPECT(bytes_are(buffer, 0xA5, 2 * PAGE_SIZE + 16));
    }
    RULE("HalFreeCommonBuffer function", "gives the buffer back") {
        HalFreeCommonBuffer(adapter, 2 * PAGE_SIZE + 16, logical, buffer, FALSE);
        EXPECT(!MmIsAddressValid(buffer));
    }
    RULE("HalReadDmaCounter function", "nothing is left to transfer where nothing is being transferred") {
        EXPECT_EQ(HalReadDmaCounter(adapter), 0);
    }
    ((PDMA_ADAPTER)adapter)->DmaOperations->PutDmaAdapter((PDMA_ADAPTER)adapter);
}

static PVOID map_base;
static ULONG turns;

static IO_ALLOCATION_ACTION NTAPI keeps_channel(PDEVICE_OBJECT device, PIRP irp, PVOID base, PVOID context)
{
    map_base = base;
    turns++;
    return KeepObject;
}

static NTSTATUS allocate_channel(PDMA_ADAPTER adapter, PDEVICE_OBJECT device)
{
    KIRQL irql;
    NTSTATUS status;
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    status = adapter->DmaOperations->AllocateAdapterChannel(adapter, device, 3, keeps_channel, NULL);
    KeLowerIrql(irql);
    return status;
}

static void free_channel(PDMA_ADAPTER adapter)
{
    KIRQL irql;
    KeRaiseIrql(DISPATCH_LEVEL, &irql);
    adapter->DmaOperations->FreeAdapterChannel(adapter);
    KeLowerIrql(irql);
}

/* The system's own DMA controller, with nobody at channels 1 and 5 who would ask it for anything. */
static void system_dma(void)
{
    static UCHAR buffer[2 * PAGE_SIZE] __attribute__((aligned(2)));
    DEVICE_DESCRIPTION description;
    PDMA_ADAPTER adapter = NULL, other = NULL, words = NULL;
    PDEVICE_OBJECT device = NULL;
    PMDL list = IoAllocateMdl(buffer, sizeof(buffer), FALSE, FALSE, NULL);
    ULONG registers = 0, length;

    RtlZeroMemory(&description, sizeof(description));
    description.Version = DEVICE_DESCRIPTION_VERSION;
    description.InterfaceType = Isa;
    description.DmaChannel = 1;
    description.DmaWidth = Width8Bits;
    description.DmaSpeed = Compatible;
    description.MaximumLength = sizeof(buffer);
    if (!list || !NT_SUCCESS(IoCreateDevice(self, 0, NULL, FILE_DEVICE_UNKNOWN, 0, FALSE, &device)))
        return;
    MmBuildMdlForNonPagedPool(list);
    RULE("IoGetDmaAdapter function", "an adapter for a device that uses a channel of the system's controller") {
        adapter = IoGetDmaAdapter(NULL, &description, &registers);
        EXPECT(adapter != NULL);
        EXPECT(registers >= 3);
        other = IoGetDmaAdapter(NULL, &description, &registers);
        EXPECT(other != NULL);
    }
    RULE("DEVICE_DESCRIPTION structure", "channels 0 to 3 are of 8 bits, 5 to 7 of 16; there is no channel 4") {
        DEVICE_DESCRIPTION second = description;
        second.DmaChannel = 5;
        EXPECT(IoGetDmaAdapter(NULL, &second, &registers) == NULL);
        second.DmaWidth = Width16Bits;
        words = IoGetDmaAdapter(NULL, &second, &registers);
        EXPECT(words != NULL);
        second.DmaChannel = 4;
        EXPECT(IoGetDmaAdapter(NULL, &second, &registers) == NULL);
        second.DmaChannel = 8;
        EXPECT(IoGetDmaAdapter(NULL, &second, &registers) == NULL);
    }
    if (adapter && other && words) {
        PDMA_OPERATIONS operations = adapter->DmaOperations;
        RULE("Using System DMA", "MapTransfer tells the controller; ReadDmaCounter says how much is left") {
            EXPECT_STATUS(allocate_channel(adapter, device), STATUS_SUCCESS);
            length = 0x600;
            operations->MapTransfer(adapter, list, map_base, buffer, &length, FALSE);
            EXPECT_EQ(length, 0x600);
            EXPECT_EQ(operations->ReadDmaCounter(adapter), 0x600);
        }
        RULE("FlushAdapterBuffers", "what the device has not transferred leaves the buffer as it was") {
            RtlFillMemory(buffer, sizeof(buffer), 0x3C);
            EXPECT(operations->FlushAdapterBuffers(adapter, list, map_base, buffer, 0x600, FALSE));
            EXPECT(bytes_are(buffer, 0x3C, sizeof(buffer)));
        }
        RULE("AllocateAdapterChannel", "a channel is one device's at a time, whatever adapter; the next has its turn when it is freed") {
            turns = 0;
            EXPECT_STATUS(allocate_channel(other, device), STATUS_SUCCESS);
            EXPECT_EQ(turns, 0);
            free_channel(adapter);
            EXPECT_EQ(turns, 1);
            free_channel(other);
        }
        RULE("Using System DMA", "a channel of 16 bits counts words, and is asked in bytes") {
            EXPECT_STATUS(allocate_channel(words, device), STATUS_SUCCESS);
            length = 0x400;
            words->DmaOperations->MapTransfer(words, list, map_base, buffer, &length, TRUE);
            EXPECT_EQ(length, 0x400);
            EXPECT_EQ(words->DmaOperations->ReadDmaCounter(words), 0x400);
            EXPECT(words->DmaOperations->FlushAdapterBuffers(words, list, map_base, buffer, length, TRUE));
            free_channel(words);
        }
        RULE("AllocateCommonBuffer", "for a channel: below 16 MB, and across no 64 KB") {
            PHYSICAL_ADDRESS logical;
            PVOID common = operations->AllocateCommonBuffer(adapter, 5 * PAGE_SIZE, &logical, FALSE);
            if (!EXPECT(common != NULL))
                continue;
            EXPECT(logical.QuadPart + 5 * PAGE_SIZE <= 0x1000000);
            EXPECT_EQ(logical.QuadPart >> 16, (logical.QuadPart + 5 * PAGE_SIZE - 1) >> 16);
            operations->FreeCommonBuffer(adapter, 5 * PAGE_SIZE, logical, common, FALSE);
        }
    }
    if (adapter)
        adapter->DmaOperations->PutDmaAdapter(adapter);
    if (other)
        other->DmaOperations->PutDmaAdapter(other);
    if (words)
        words->DmaOperations->PutDmaAdapter(words);
    IoFreeMdl(list);
    IoDeleteDevice(device);
}

static void ports_and_registers(void)
{
    static UCHAR from_rom[64];
    PHYSICAL_ADDRESS rom = { .QuadPart = 0xFFFC0 };
    volatile ULONG memory[4] = { 0 };
    PUCHAR mapped;

    RULE("WRITE_PORT_UCHAR function", "writes a byte to a port; READ_PORT_UCHAR reads one") {
        KIRQL irql;
        UCHAR before, after;
        KeRaiseIrql(HIGH_LEVEL, &irql);
        before = cmos(0x7F);
        cmos_set(0x7F, (UCHAR)~before);
        after = cmos(0x7F);
        cmos_set(0x7F, before);
        KeLowerIrql(irql);
        EXPECT_EQ(after, (UCHAR)~before);
    }
    RULE("WRITE_PORT_ULONG function", "32 bits at a time; what PCI's own ports show is what HalGetBusData gives") {
        ULONG ids = 0, by_ports, index;
        USHORT vendor;
        KIRQL irql;
        HalGetBusData(PCIConfiguration, 0, 0, &ids, 4);
        KeRaiseIrql(HIGH_LEVEL, &irql);
        WRITE_PORT_ULONG(PCI_INDEX, 0x80000000);
        index = READ_PORT_ULONG(PCI_INDEX);
        by_ports = READ_PORT_ULONG((PULONG)PCI_DATA);
        vendor = READ_PORT_USHORT((PUSHORT)(PCI_DATA + 2));
        KeLowerIrql(irql);
        EXPECT_EQ(index, 0x80000000);
        EXPECT_EQ(by_ports, ids);
        EXPECT_EQ(vendor, ids >> 16);
    }
    RULE("READ_PORT_BUFFER_UCHAR function", "reads the same port over and over") {
        UCHAR bytes[3] = { 0xEE, 0xEE, 0xEE };
        KIRQL irql;
        UCHAR one;
        KeRaiseIrql(HIGH_LEVEL, &irql);
        one = cmos(0x7F);
        __inbytestring(0x71, bytes, 2);
        KeLowerIrql(irql);
        EXPECT(bytes[0] == one && bytes[1] == one && bytes[2] == 0xEE);
    }
    mapped = MmMapIoSpace(rom, 64, MmNonCached);
    RULE("READ_REGISTER_BUFFER_UCHAR function", "reads so many bytes from a mapped register") {
        EXPECT(mapped != NULL);
        READ_REGISTER_BUFFER_UCHAR(mapped, from_rom, sizeof(from_rom));
        EXPECT(RtlCompareMemory(from_rom, mapped, sizeof(from_rom)) == sizeof(from_rom));
        EXPECT(!bytes_are(from_rom, 0xFF, sizeof(from_rom)));
    }
    RULE("READ_REGISTER_ULONG function", "all widths show the same bytes, the lowest first") {
        ULONG all = READ_REGISTER_ULONG((PULONG)(mapped + 48));
        EXPECT_EQ(READ_REGISTER_USHORT((PUSHORT)(mapped + 48)), all & 0xFFFF);
        EXPECT_EQ(READ_REGISTER_UCHAR(mapped + 49), all >> 8 & 0xFF);
        EXPECT_EQ(from_rom[48], all & 0xFF);
    }
    MmUnmapIoSpace(mapped, 64);
    RULE("WRITE_REGISTER_BUFFER_ULONG function", "writes so many, and no further") {
        ULONG values[2] = { 0x11223344, 0x55667788 };
        WRITE_REGISTER_BUFFER_ULONG((PULONG)(ULONG_PTR)&memory[1], values, 2);
        EXPECT(memory[0] == 0 && memory[1] == values[0] && memory[2] == values[1] && memory[3] == 0);
        WRITE_REGISTER_UCHAR((PUCHAR)(ULONG_PTR)&memory[3], 0x99);
        EXPECT_EQ(memory[3], 0x99);
    }
}

static void clocks(void)
{
    RULE("KeStallExecutionProcessor function", "may be called at any IRQL") {
        LARGE_INTEGER frequency, from, to;
        KIRQL irql;
        KeRaiseIrql(HIGH_LEVEL, &irql);
        from = KeQueryPerformanceCounter(&frequency);
        KeStallExecutionProcessor(30);
        to = KeQueryPerformanceCounter(NULL);
        KeLowerIrql(irql);
        EXPECT((to.QuadPart - from.QuadPart) * 1000000 >= 30 * frequency.QuadPart);
    }
    RULE("KeQueryPerformanceCounter function", "no processor is behind another") {
        LARGE_INTEGER last = KeQueryPerformanceCounter(NULL), now;
        KAFFINITY all = KeQueryActiveProcessors();
        for (int round = 0; round < 3; round++) {
            for (ULONG number = 0; number < 64; number++) {
                if (!(all & ((KAFFINITY)1 << number)))
                    continue;
                KeSetSystemAffinityThread((KAFFINITY)1 << number);
                now = KeQueryPerformanceCounter(NULL);
                EXPECT(now.QuadPart >= last.QuadPart);
                last = now;
            }
        }
        KeRevertToUserAffinityThread();
    }
}

static void checks(PDRIVER_OBJECT driver, PUNICODE_STRING path)
{
    (void)path;
    self = driver;
    configuration_space();
    addresses();
    interrupts();
    claims();
    dma();
    system_dma();
    ports_and_registers();
    clocks();
}

SUITE("Hal")
