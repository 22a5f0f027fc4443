//! Declaring sets of labels.

/// Declares a struct whose fields are the labels of a metric.
#[macro_export]
macro_rules! label_set {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field:ident: $type:ty,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $crate::metrics::LabelSet for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];
        }

        impl $crate::metrics::encoding::EncodeLabelSet for $name {
            fn encode(
                &self,
                encoder: &mut $crate::metrics::encoding::LabelSetEncoder<'_>,
            ) -> ::std::fmt::Result {
                use $crate::metrics::encoding::EncodeLabel as _;
                $((stringify!($field), self.$field.clone()).encode(encoder.encode_label())?;)+
                Ok(())
            }
        }
    };
}
