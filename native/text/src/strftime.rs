//! `strftime_now` of chat templates: the local date in the C locale, as Python writes it.

use std::fmt::Write;

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub fn now(format: &str) -> String {
    // SAFETY: both calls fill the struct they are given; `time` accepts a null pointer.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        let now = libc::time(std::ptr::null_mut());
        libc::localtime_r(&now, &mut tm);
        tm
    };
    format_tm(format, &tm)
}

fn format_tm(format: &str, tm: &libc::tm) -> String {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let Some(mut field) = chars.next() else {
            out.push('%');
            break;
        };
        // glibc's and Python's way to leave out the leading zero.
        let bare = field == '-';
        if bare {
            let Some(next) = chars.next() else { break };
            field = next;
        }
        write_field(&mut out, field, bare, tm);
    }
    out
}

fn write_field(out: &mut String, field: char, bare: bool, tm: &libc::tm) {
    let day = DAYS[tm.tm_wday.rem_euclid(7) as usize];
    let month = MONTHS[tm.tm_mon.rem_euclid(12) as usize];
    let hour = match tm.tm_hour % 12 {
        0 => 12,
        h => h,
    };
    let mut digits = |value: i32, width: usize| {
        let width = if bare { 0 } else { width };
        let _ = write!(out, "{value:0width$}");
    };
    match field {
        'd' => digits(tm.tm_mday, 2),
        'm' => digits(tm.tm_mon + 1, 2),
        'Y' => digits(tm.tm_year + 1900, 4),
        'y' => digits((tm.tm_year + 1900).rem_euclid(100), 2),
        'H' => digits(tm.tm_hour, 2),
        'I' => digits(hour, 2),
        'M' => digits(tm.tm_min, 2),
        'S' => digits(tm.tm_sec, 2),
        'j' => digits(tm.tm_yday + 1, 3),
        'w' => digits(tm.tm_wday, 1),
        'e' => {
            let _ = write!(out, "{:2}", tm.tm_mday);
        }
        'a' => out.push_str(&day[..3]),
        'A' => out.push_str(day),
        'b' | 'h' => out.push_str(&month[..3]),
        'B' => out.push_str(month),
        'p' => out.push_str(if tm.tm_hour < 12 { "AM" } else { "PM" }),
        'F' => out.push_str(&format_tm("%Y-%m-%d", tm)),
        'T' => out.push_str(&format_tm("%H:%M:%S", tm)),
        'R' => out.push_str(&format_tm("%H:%M", tm)),
        'D' => out.push_str(&format_tm("%m/%d/%y", tm)),
        'n' => out.push('\n'),
        't' => out.push('\t'),
        '%' => out.push('%'),
        other => {
            out.push('%');
            out.push(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::format_tm;

    #[test]
    fn writes_the_fields_templates_use() {
        // SAFETY: an all-zero `tm` is a valid value.
        let mut tm: libc::tm = unsafe { std::mem::zeroed() };
        (tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_wday) = (124, 6, 4, 4);
        (tm.tm_hour, tm.tm_min, tm.tm_sec, tm.tm_yday) = (15, 7, 9, 185);
        assert_eq!(format_tm("%d %b %Y", &tm), "04 Jul 2024");
        assert_eq!(format_tm("%A, %B %-d", &tm), "Thursday, July 4");
        assert_eq!(
            format_tm("%F %T %I%p %j %%", &tm),
            "2024-07-04 15:07:09 03PM 186 %"
        );
        assert_eq!(format_tm("%Q %", &tm), "%Q %");
    }
}
