//! A boot sector that says something and does something: the smallest machine that boots.

/// The program, for `as`:
///
/// ```text
/// start:  xor %ax,%ax; mov %ax,%ds; mov %ax,%es; mov %ax,%ss; mov $0x7c00,%sp; sti
///         mov %dl,0x7db2; cmpb $4,0x7db0; jne print
///         mov $0x42,%ah; mov $0x7da0,%si; int $0x13
/// print:  mov $0x7ce0,%si
/// 1:      lodsb; test %al,%al; jz done
///         testb $1,0x7db1; jz 3f; push %ax; mov $0x3fd,%dx
/// 2:      in %dx,%al; test $0x20,%al; jz 2b; pop %ax; mov $0x3f8,%dx; out %al,%dx
/// 3:      testb $2,0x7db1; jz 1b; mov $0x0e,%ah; mov $7,%bx; int $0x10; jmp 1b
/// done:   mov 0x7db0,%al; dec %al; jz print; dec %al; jz reset; dec %al; jz off
///         sub $2,%al; jz write; dec %al; jz button; dec %al; jz button
/// halt:   hlt; jmp halt
/// reset:  mov $0xfe,%al; out %al,$0x64; jmp halt
/// button: mov $0x602,%dx; mov $0x100,%ax; out %ax,%dx; mov $0x600,%dx
/// 4:      in %dx,%ax; test $1,%ah; jz 4b; cmpb $6,0x7db0; je write
/// off:    mov $0x604,%dx; mov $0x2000,%ax; out %ax,%dx; jmp halt
/// write:  mov 0x7db2,%dl; mov $0x4300,%ax; mov $0x7da0,%si; int $0x13
///         cmpb $6,0x7db0; je off; addw $128,0x7da8; jmp write
/// ```
const PROGRAM: &str = "31c08ed88ec08ed0bc007cfb8816b27d803eb07d047507b442bea07dcd13bee07cac84\
    c07425f606b17d01740e50bafd03eca82074fb58baf803eef606b17d0274dfb40ebb0700cd10ebd6a0b07dfec8\
    74ccfec87413fec8742c2c027431fec8740dfec87409f4ebfdb0fee664ebf7ba0206b80001efba0006edf6c401\
    74fa803eb07d067409ba0406b80020efebd78a16b27db80043bea07dcd13803eb07d0674e48106a87d8000ebe5";
/// Where what it says begins, and what the BIOS is to read or write.
const WORDS: usize = 0xe0;
const PLACE: usize = 0x1a0;
/// 64 sectors from the 2048th on, at 0x8000.
const PACKET: [u8; 16] = [16, 0, 64, 0, 0, 0x80, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0];

/// What it does once it has said something. (1 says it again and again.)
#[derive(Clone, Copy)]
pub enum Act {
    Rest = 0,
    Reset = 2,
    PowerOff = 3,
    /// It reads from its disk before it says anything, and then rests.
    ReadBefore = 4,
    /// More and more, to its disk.
    Write = 5,
    /// It writes and powers itself off when its power button is pressed.
    AwaitButton = 6,
    /// The same without a write.
    OffAtButton = 7,
}

#[derive(Clone)]
pub struct Sector {
    words: Vec<u8>,
    serial: bool,
    screen: bool,
    act: Act,
    lost: bool,
}

impl Sector {
    pub fn says(words: &str) -> Self {
        Self {
            words: format!("\r\n{words}").into_bytes(),
            serial: false,
            screen: false,
            act: Act::Rest,
            lost: false,
        }
    }

    /// One that is not there.
    pub fn lost() -> Self {
        Self {
            lost: true,
            ..Self::says("")
        }
    }

    pub fn on_serial(self) -> Self {
        Self {
            serial: true,
            ..self
        }
    }

    pub fn on_screen(self) -> Self {
        Self {
            screen: true,
            ..self
        }
    }

    pub fn and_then(self, act: Act) -> Self {
        Self { act, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut sector = vec![0; 512];
        if self.lost {
            return sector;
        }
        let program = hex::decode(PROGRAM.replace(char::is_whitespace, "")).unwrap();
        assert!(program.len() <= WORDS && self.words.len() < PLACE - WORDS);
        sector[..program.len()].copy_from_slice(&program);
        sector[WORDS..WORDS + self.words.len()].copy_from_slice(&self.words);
        sector[PLACE..PLACE + 16].copy_from_slice(&PACKET);
        sector[PLACE + 16] = self.act as u8;
        sector[PLACE + 17] = u8::from(self.serial) | u8::from(self.screen) << 1;
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }
}
