//! The options that a process runs with.

use super::reader::Reader;
use super::root::Root;
use super::{Memory, Unreadable};
use crate::options::layout::{CheckLayout, Form, MAX_CHECKS, MAX_SETTINGS, SettingLayout, SettingsLayout};
use core::fmt;
use core::mem::offset_of;

/// Bytes of a text that are shown, at most.
const MOST: usize = 1024;

/// Tells of each option of a heap its name and its value, as one would write it in the environment. Options whose value was left to the
/// library, and texts that are empty, are left out.
///
/// # Errors
/// When something cannot be read; what was read before was told.
pub fn settings(
    memory: &dyn Memory,
    root: &Root,
    tell: &mut dyn FnMut(&str, &dyn fmt::Display),
) -> Result<(), Unreadable> {
    const EACH: usize = offset_of!(SettingsLayout, settings);
    let mut reader = Reader::new(memory);
    for index in 0..MAX_SETTINGS {
        let at = root.address() + Root::SETTINGS + EACH + index * size_of::<SettingLayout>();
        let mut field = |offset: usize| reader.u32(at, offset as u32);
        let (form, mask) = (field(offset_of!(SettingLayout, form))?, field(offset_of!(SettingLayout, mask))?);
        let place = root.options.wrapping_add(field(offset_of!(SettingLayout, offset))? as usize);
        let name = Text::<20>::read(&mut reader, at)?;
        let mut setting = Setting { reader: &mut reader, root, place, mask };
        let number = match form {
            form if form == Form::End as u32 => continue,
            form if form == Form::Number as u32 => Some(setting.number()?),
            form if form == Form::NumberWhile as u32 => Some(setting.number_while()?),
            form if form == Form::Long as u32 => Some(setting.long()?),
            form if form == Form::Amount as u32 => {
                Some(setting.long()?).map(|long| if long == u64::MAX { 0 } else { long })
            }
            form if form == Form::LongIfSet as u32 => Some(setting.long()?).filter(|&long| long != u64::MAX),
            form if form == Form::LongIfAny as u32 => Some(setting.long()?).filter(|&long| long != 0),
            form if form == Form::Word as u32 => {
                tell(name.text(), &setting.word()?);
                None
            }
            form if form == Form::Checks as u32 => {
                let checks = setting.checks()?;
                if checks.iter().any(|check| !check.name.text().is_empty()) {
                    tell(name.text(), &Checks(&checks));
                }
                None
            }
            form if form == Form::Text as u32 => {
                let text = Text::<MOST>::read(setting.reader, place)?;
                if !text.text().is_empty() {
                    tell(name.text(), &text);
                }
                None
            }
            // One of a later release.
            _ => None,
        };
        if let Some(number) = number {
            tell(name.text(), &number);
        }
    }
    Ok(())
}

/// The word that says why calls are attended.
pub(super) fn attended(reader: &mut Reader<'_>, root: &Root) -> Result<u32, Unreadable> {
    let offset = reader.u32(root.address() + Root::SETTINGS, offset_of!(SettingsLayout, attended) as u32)?;
    reader.u32(root.options, offset)
}

/// Where one value lies.
struct Setting<'s, 'm> {
    reader: &'s mut Reader<'m>,
    root: &'s Root,
    place: usize,
    mask: u32,
}

impl Setting<'_, '_> {
    fn at(&self, offset: usize) -> usize {
        self.root.address() + Root::SETTINGS + offset
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        let bits = self.reader.u32(self.place, 0)? & self.mask;
        Ok(u64::from(bits.checked_shr(self.mask.trailing_zeros()).unwrap_or(0)))
    }

    fn number_while(&mut self) -> Result<u64, Unreadable> {
        let is_on = attended(self.reader, self.root)? & self.mask != 0;
        Ok(if is_on { u64::from(self.reader.u32(self.place, 0)?) } else { 0 })
    }

    fn long(&mut self) -> Result<u64, Unreadable> {
        self.reader.u64(self.place, 0)
    }

    fn word(&mut self) -> Result<Text<8>, Unreadable> {
        let number = self.reader.u32(self.place, 0)?.saturating_add(self.mask).min(3) as usize;
        Text::read(self.reader, self.at(offset_of!(SettingsLayout, words) + number * 8))
    }

    /// The checks that are on; of the others the name is empty.
    fn checks(&mut self) -> Result<[Check; MAX_CHECKS], Unreadable> {
        let bits = self.number()?;
        let mut checks = [const { Check { name: Text([0; 12]), amount: None } }; MAX_CHECKS];
        for (index, check) in checks.iter_mut().enumerate().filter(|(index, _)| bits >> index & 1 != 0) {
            let at = self.at(offset_of!(SettingsLayout, checks) + index * size_of::<CheckLayout>());
            check.name = Text::read(self.reader, at)?;
            let amount = self.reader.u32(at, offset_of!(CheckLayout, amount) as u32)?;
            if amount != 0 {
                check.amount = Some(self.reader.u64(self.root.options, amount)?);
            }
        }
        Ok(checks)
    }
}

struct Check {
    name: Text<12>,
    amount: Option<u64>,
}

struct Checks<'c>(&'c [Check]);

impl fmt::Display for Checks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for check in self.0.iter().filter(|check| !check.name.text().is_empty()) {
            write!(f, "{comma}{}", check.name)?;
            if let Some(amount) = check.amount {
                write!(f, "={amount}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

/// Text that is ended by a zero, or fills its place. What is no UTF-8 ends it.
struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    fn read(reader: &mut Reader<'_>, at: usize) -> Result<Self, Unreadable> {
        let mut bytes = [0; N];
        for (index, place) in bytes.iter_mut().enumerate() {
            match reader.u8(at, index as u32)? {
                0 => break,
                byte => *place = byte,
            }
        }
        Ok(Self(bytes))
    }

    fn text(&self) -> &str {
        let bytes = self.0.split(|&byte| byte == 0).next().unwrap_or_default();
        core::str::from_utf8(bytes)
            .unwrap_or_else(|error| core::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or(""))
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
