use rustls::ConnectionTrafficSecrets as Secrets;
use rustls::crypto::cipher::{AeadKey, Iv};

use super::*;

fn pair(suite: usize, version: ProtocolVersion) -> (Cipher, Cipher) {
    let make = || {
        let (key, iv) = (AeadKey::from([7; 32]), Iv::from([9; 12]));
        (
            3,
            match suite {
                0 => Secrets::Aes256Gcm { key, iv },
                _ => Secrets::Chacha20Poly1305 { key, iv },
            },
        )
    };
    (Cipher::new(make(), version).unwrap(), Cipher::new(make(), version).unwrap())
}

fn all() -> impl Iterator<Item = (usize, ProtocolVersion)> {
    [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3].into_iter().flat_map(|v| [(0, v), (1, v)])
}

#[test]
fn what_is_sealed_opens_in_order() {
    for (suite, version) in all() {
        let (mut sealing, mut opening) = pair(suite, version);
        for len in [0, 1, 15, 16, 17, 1000, MOST] {
            let text: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut record = vec![0xaa; len + sealing.overhead()];
            record[sealing.lead()..sealing.lead() + len].copy_from_slice(&text);
            let sealed = sealing.seal(DATA, &mut record, len).unwrap();
            assert_eq!(sealed, record.len());
            assert_eq!(whole(&record), Ok(Some(sealed)));
            assert_eq!(whole(&record[..sealed - 1]), Ok(None));
            let (kind, at) = opening.open(&mut record).unwrap();
            assert_eq!((kind, &record[at]), (DATA, &text[..]), "{version:?}");
        }
    }
}

#[test]
fn a_changed_repeated_or_missing_record_is_refused() {
    for (suite, version) in all() {
        let (mut sealing, _) = pair(suite, version);
        let mut record = |text: &[u8]| {
            let mut record = vec![0; text.len() + sealing.overhead()];
            record[sealing.lead()..sealing.lead() + text.len()].copy_from_slice(text);
            sealing.seal(DATA, &mut record, text.len()).unwrap();
            record
        };
        let (first, second) = (record(b"first"), record(b"second"));
        for at in 0..first.len() {
            let (_, mut opening) = pair(suite, version);
            let mut forged = first.clone();
            forged[at] ^= 1;
            // The length is what frames the record, so it is not looked at again here.
            if at != 3 && at != 4 {
                assert!(opening.open(&mut forged).is_err(), "byte {at} of {version:?}");
            }
        }
        let (_, mut opening) = pair(suite, version);
        assert_eq!(opening.open(&mut second.clone()), Err(BadRecord::Forged), "one is missing");
        opening.open(&mut first.clone()).unwrap();
        assert_eq!(opening.open(&mut first.clone()), Err(BadRecord::Forged), "repeated");
        opening.open(&mut second.clone()).unwrap();
    }
}

#[test]
fn any_bytes_are_refused_without_panic() {
    for (suite, version) in all() {
        for len in 0..64 {
            for kind in [20, 21, 22, 23, 24, 255] {
                let (_, mut opening) = pair(suite, version);
                let mut record = vec![0; HEADER + len];
                record[..HEADER].copy_from_slice(&[kind, 3, 3, 0, len as u8]);
                assert!(opening.open(&mut record).is_err());
            }
        }
    }
    assert_eq!(whole(b"GET / HTTP/1.1"), Err(BadRecord::Type));
    assert_eq!(whole(&[23, 3, 3, 255, 255]), Err(BadRecord::TooLong));
    assert_eq!(whole(&[23, 3, 3]), Ok(None));
}
