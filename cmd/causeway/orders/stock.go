package orders

import (
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	ordersv1 "github.com/causeway-gateway/causeway/protos/demo/orders/v1"
	"github.com/causeway-gateway/causeway/transcode/schema"
)

// product is one thing that the shop sells.
type product struct {
	sku   string
	cents int64
}

// products is what the shop sells, sorted by SKU. The last one costs enough to show that 64-bit numbers survive: its
// price is not exact as a JSON number.
func products() []product {
	return []product{
		{"coffee-1kg", 1890},
		{"filter-100", 450},
		{"kettle", 4999},
		{"mug", 1250},
		{"tea-500g", 1290},
		{"teahouse", 9007199254740993},
	}
}

func skus() []string {
	stock := products()
	names := make([]string, 0, len(stock))
	for _, p := range stock {
		names = append(names, p.sku)
	}
	return names
}

// seed returns the orders that every server starts with, oldest first: both kinds of delivery and every state.
func seed() []*ordersv1.Order {
	morning := time.Date(2026, time.January, 5, 8, 30, 0, 0, time.UTC)
	orders := []*ordersv1.Order{
		{
			Customer: "ada",
			State:    ordersv1.State_PLACED,
			Items: []*ordersv1.Item{
				{Sku: "tea-500g", Quantity: 2, Tags: []string{"gift", "fragile"}},
				{Sku: "mug", Quantity: 1},
			},
			Labels:       map[string]string{"channel": "web", "note": "ring twice"},
			Created:      timestamppb.New(morning),
			Delivery:     &ordersv1.Order_Address{Address: &ordersv1.Address{Street: "12 St James's Square", City: "London", Country: "GB"}},
			DeliveryTime: durationpb.New(48 * time.Hour),
		},
		{
			Customer:     "grace",
			State:        ordersv1.State_SHIPPED,
			Items:        []*ordersv1.Item{{Sku: "coffee-1kg", Quantity: 3, Tags: []string{"weekly"}}},
			Labels:       map[string]string{"channel": "shop"},
			Created:      timestamppb.New(morning.Add(26*time.Hour + 123456789*time.Nanosecond)),
			Delivery:     &ordersv1.Order_PickupShop{PickupShop: 7},
			DeliveryTime: durationpb.New(90*time.Minute + 500*time.Millisecond),
		},
		{
			Customer:     "ada",
			State:        ordersv1.State_CANCELLED,
			Items:        []*ordersv1.Item{{Sku: "kettle", Quantity: 1}, {Sku: "filter-100", Quantity: 4}},
			Labels:       map[string]string{"channel": "web", cancelReasonLabel: "ordered by mistake"},
			Created:      timestamppb.New(morning.Add(49*time.Hour + 15*time.Minute)),
			Delivery:     &ordersv1.Order_Address{Address: &ordersv1.Address{Street: "Zähringerstraße 3", City: "Köln", Country: "DE"}},
			DeliveryTime: durationpb.New(72 * time.Hour),
		},
	}
	for _, o := range orders {
		o.TotalCents, _ = priceItems("items", o.GetItems()) // the test of the seed holds that there is no fault
	}
	return orders
}

// priceItems sets the price of each item from the stock and returns the sum in cents. path is where the items stand in
// the request.
func priceItems(path string, items []*ordersv1.Item) (int64, []fault) {
	if len(items) == 0 {
		return 0, []fault{violation(path, "want one item or more, found none")}
	}
	var total int64
	var faults []fault
	for i, it := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		stock := products()
		n := slices.IndexFunc(stock, func(p product) bool { return p.sku == it.GetSku() })
		if n < 0 {
			faults = append(faults, violation(at+".sku", "unknown SKU %q%s", it.GetSku(), schema.DidYouMean(it.GetSku(), skus())))
			continue
		}
		if it.GetQuantity() < 1 {
			faults = append(faults, violation(at+".quantity", "want 1 or more, found %d", it.GetQuantity()))
			continue
		}
		it.PriceCents = stock[n].cents
		if int64(it.GetQuantity()) > (math.MaxInt64-total)/it.GetPriceCents() {
			faults = append(faults, violation(at+".quantity", "the total of the order exceeds %d cents", int64(math.MaxInt64)))
			continue
		}
		total += int64(it.GetQuantity()) * it.GetPriceCents()
	}
	return total, faults
}

// complete checks what a customer may set in an order, sets prices and total, and gives a delivery time where none was
// asked for.
func complete(o *ordersv1.Order) []fault {
	var faults []fault
	if o.GetCustomer() == "" {
		faults = append(faults, violation("order.customer", "want the name of a customer, found none"))
	}
	total, bad := priceItems("order.items", o.GetItems())
	faults = append(faults, bad...)
	o.TotalCents = total
	asIs := 48 * time.Hour
	switch d := o.GetDelivery().(type) {
	case *ordersv1.Order_Address:
		if d.Address.GetCity() == "" {
			faults = append(faults, violation("order.address.city", "want a city, found none"))
		}
	case *ordersv1.Order_PickupShop:
		if d.PickupShop < 1 {
			faults = append(faults, violation("order.pickup_shop", "want the number of a shop, found %d", d.PickupShop))
		}
		asIs = 2 * time.Hour
	}
	switch t := o.GetDeliveryTime(); {
	case t == nil:
		o.DeliveryTime = durationpb.New(asIs)
	case !t.IsValid() || t.AsDuration() < 0:
		faults = append(faults, violation("order.delivery_time", "want a duration of 0 s or more, found %d s and %d ns", t.GetSeconds(), t.GetNanos()))
	}
	return faults
}
