package config

import configv1 "github.com/causeway-gateway/causeway/protos/causeway/config/v1"

func check(d *Document, c *configv1.Config) Faults { return nil }
