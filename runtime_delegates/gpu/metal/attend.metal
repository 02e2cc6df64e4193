// Written by build_shaders.py from shaders/attend.comp; do not edit. Compile without fast math.
#pragma clang diagnostic ignored "-Wmissing-prototypes"

#include <metal_stdlib>
#include <simd/simd.h>

using namespace metal;

template<typename T>
[[clang::optnone]] T spvFMul(T l, T r)
{
    return fma(l, r, T(0));
}

template<typename T>
[[clang::optnone]] T spvFAdd(T l, T r)
{
    return fma(T(1), l, r);
}

template<typename T>
[[clang::optnone]] T spvFSub(T l, T r)
{
    return fma(T(-1), r, l);
}

struct Step
{
    uint step_[1];
};

struct Push
{
    uint heads;
    uint heads_per_kv;
    uint key_vectors;
    uint value_dim;
    uint q_stride;
    uint q_head;
    uint key_stride;
    uint key_head;
    uint value_stride;
    uint value_head;
    uint max_parts;
    uint part_rows;
    uint span;
    float scale;
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint THREADS = BLOCKFFN_THREADS;
constant uint _394 = (THREADS / 8u);

struct Query
{
    float4 query[1];
};

constant uint _454 = (THREADS / 8u);

struct Keys
{
    float4 keys[1];
};

constant uint _515 = (THREADS / 8u);

struct Values
{
    float4 values[1];
};

struct Parts
{
    float parts[1];
};

#ifndef BLOCKFFN_THREADS
#define BLOCKFFN_THREADS 64u
#endif
constant uint _910 = BLOCKFFN_THREADS;
constant uint3 gl_WorkGroupSize [[maybe_unused]] = uint3(_910, 1u, 1u);

kernel void attend(constant Push& p [[buffer(0)]], const device Query& _438 [[buffer(2)]], device Parts& _810 [[buffer(3)]], const device Keys& _464 [[buffer(4)]], const device Step& _146 [[buffer(5)]], const device Values& _695 [[buffer(6)]], uint3 gl_LocalInvocationID [[thread_position_in_threadgroup]], uint3 gl_WorkGroupID [[threadgroup_position_in_grid]])
{
    threadgroup uint rows[64];
    threadgroup float lanes[512];
    threadgroup float scores[64];
    threadgroup float weights[64];
    threadgroup float4 sums[THREADS];
    do
    {
        uint _151 = _146.step_[1];
        uint _154 = _146.step_[13];
        uint _155 = _151 - _154;
        uint _159 = 80u + gl_WorkGroupID.x;
        uint _161 = _146.step_[_159];
        uint _165 = 144u + gl_WorkGroupID.x;
        uint _167 = _146.step_[_165];
        int _171 = int(popcount(_161));
        uint _177 = (_155 + uint(_171)) + uint(int(popcount(_167)));
        uint _190 = min(_177, ((gl_WorkGroupID.z + 1u) * p.part_rows));
        bool _194 = gl_WorkGroupID.x >= _146.step_[0];
        bool _204;
        if (!_194)
        {
            _204 = (gl_WorkGroupID.z * p.part_rows) >= _177;
        }
        else
        {
            _204 = _194;
        }
        if (_204)
        {
            break;
        }
        uint _212 = gl_WorkGroupID.y / p.heads_per_kv;
        uint _224 = (gl_WorkGroupID.x * p.q_stride) + (gl_WorkGroupID.y * p.q_head);
        uint _228 = gl_LocalInvocationID.x % 8u;
        uint _234 = gl_LocalInvocationID.x / p.span;
        uint _239 = THREADS / p.span;
        uint _246 = (p.value_dim + 3u) / 4u;
        float4 acc[4];
        acc[0u] = float4(0.0);
        acc[1u] = float4(0.0);
        acc[2u] = float4(0.0);
        acc[3u] = float4(0.0);
        uint _271 = gl_WorkGroupID.z * p.part_rows;
        float _1136;
        float _1137;
        _1137 = 0.0;
        _1136 = as_type<float>(0xff800000u /* -inf */);
        float _2779;
        float _3906;
        uint key_at[8];
        float sum[8];
        for (uint _1135 = _271; _1135 < _190; _1137 = _3906, _1136 = _2779, _1135 += 64u)
        {
            uint _284 = _190 - _1135;
            uint _285 = min(64u, _284);
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1149 = gl_LocalInvocationID.x; _1149 < 64u; _1149 += THREADS)
            {
                bool _298 = _1149 < _285;
                bool _306;
                if (_298)
                {
                    _306 = (_1135 + _1149) < _155;
                }
                else
                {
                    _306 = _298;
                }
                if (_306)
                {
                    rows[_1149] = _1135 + _1149;
                }
                uint _322 = 1u << (_1149 % 32u);
                bool _324 = _1149 < 32u;
                if (((_324 ? _161 : _167) & _322) == 0u)
                {
                    continue;
                }
                int _1229;
                if (_324)
                {
                    _1229 = int(popcount(_161 & (_322 - 1u)));
                }
                else
                {
                    _1229 = _171 + int(popcount(_167 & (_322 - 1u)));
                }
                uint _358 = _155 + uint(_1229);
                bool _361 = _358 >= _1135;
                bool _369;
                if (_361)
                {
                    _369 = (_358 - _1135) < _285;
                }
                else
                {
                    _369 = _361;
                }
                if (_369)
                {
                    rows[_358 - _1135] = _155 + _1149;
                }
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            uint _397 = gl_LocalInvocationID.x / 8u;
            uint _400 = _285 - 1u;
            uint _412 = _212 * p.key_head;
            key_at[0u] = (rows[min(_397, _400)] * p.key_stride) + _412;
            sum[0u] = 0.0;
            key_at[1u] = (rows[min((_394 + _397), _400)] * p.key_stride) + _412;
            sum[1u] = 0.0;
            key_at[2u] = (rows[min(((2u * _394) + _397), _400)] * p.key_stride) + _412;
            sum[2u] = 0.0;
            key_at[3u] = (rows[min(((3u * _394) + _397), _400)] * p.key_stride) + _412;
            sum[3u] = 0.0;
            key_at[4u] = (rows[min(((4u * _394) + _397), _400)] * p.key_stride) + _412;
            sum[4u] = 0.0;
            key_at[5u] = (rows[min(((5u * _394) + _397), _400)] * p.key_stride) + _412;
            sum[5u] = 0.0;
            key_at[6u] = (rows[min(((6u * _394) + _397), _400)] * p.key_stride) + _412;
            sum[6u] = 0.0;
            key_at[7u] = (rows[min(((7u * _394) + _397), _400)] * p.key_stride) + _412;
            sum[7u] = 0.0;
            for (uint _1151 = _228; _1151 < p.key_vectors; _1151 += 8u)
            {
                uint _441 = _224 + _1151;
                for (uint _1223 = 0u; _1223 < 8u; _1223++)
                {
                    if ((_1223 * _454) >= 64u)
                    {
                        continue;
                    }
                    uint _469 = key_at[_1223] + _1151;
                    sum[_1223] = fma(_438.query[_441].w, _464.keys[_469].w, fma(_438.query[_441].z, _464.keys[_469].z, fma(_438.query[_441].y, _464.keys[_469].y, fma(_438.query[_441].x, _464.keys[_469].x, sum[_1223]))));
                }
            }
            lanes[gl_LocalInvocationID.x] = sum[0u];
            if (_515 < 64u)
            {
                lanes[THREADS + gl_LocalInvocationID.x] = sum[1u];
            }
            if ((2u * _515) < 64u)
            {
                lanes[(2u * THREADS) + gl_LocalInvocationID.x] = sum[2u];
            }
            if ((3u * _515) < 64u)
            {
                lanes[(3u * THREADS) + gl_LocalInvocationID.x] = sum[3u];
            }
            if ((4u * _515) < 64u)
            {
                lanes[(4u * THREADS) + gl_LocalInvocationID.x] = sum[4u];
            }
            if ((5u * _515) < 64u)
            {
                lanes[(5u * THREADS) + gl_LocalInvocationID.x] = sum[5u];
            }
            if ((6u * _515) < 64u)
            {
                lanes[(6u * THREADS) + gl_LocalInvocationID.x] = sum[6u];
            }
            if ((7u * _515) < 64u)
            {
                lanes[(7u * THREADS) + gl_LocalInvocationID.x] = sum[7u];
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1153 = gl_LocalInvocationID.x; _1153 < 64u; _1153 += THREADS)
            {
                uint _546 = _1153 * 8u;
                float _1220;
                if (_1153 < _285)
                {
                    _1220 = spvFMul((((((spvFAdd(lanes[_546], lanes[_546 + 1u]) + lanes[_546 + 2u]) + lanes[_546 + 3u]) + lanes[_546 + 4u]) + lanes[_546 + 5u]) + lanes[_546 + 6u]) + lanes[_546 + 7u], p.scale);
                }
                else
                {
                    _1220 = as_type<float>(0xff800000u /* -inf */);
                }
                scores[_1153] = _1220;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            float _2328 = fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(_1136, scores[0u]), scores[1u]), scores[2u]), scores[3u]), scores[4u]), scores[5u]), scores[6u]), scores[7u]), scores[8u]), scores[9u]), scores[10u]), scores[11u]), scores[12u]), scores[13u]), scores[14u]), scores[15u]), scores[16u]), scores[17u]), scores[18u]), scores[19u]), scores[20u]), scores[21u]), scores[22u]);
            float _2581 = fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(_2328, scores[23u]), scores[24u]), scores[25u]), scores[26u]), scores[27u]), scores[28u]), scores[29u]), scores[30u]), scores[31u]), scores[32u]), scores[33u]), scores[34u]), scores[35u]), scores[36u]), scores[37u]), scores[38u]), scores[39u]), scores[40u]), scores[41u]), scores[42u]), scores[43u]), scores[44u]), scores[45u]);
            _2779 = fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(fast::max(_2581, scores[46u]), scores[47u]), scores[48u]), scores[49u]), scores[50u]), scores[51u]), scores[52u]), scores[53u]), scores[54u]), scores[55u]), scores[56u]), scores[57u]), scores[58u]), scores[59u]), scores[60u]), scores[61u]), scores[62u]), scores[63u]);
            float _608 = spvFSub(_1136, _2779);
            float _1162;
            do
            {
                if (_608 < (-87.0))
                {
                    _1162 = 0.0;
                    break;
                }
                float _938 = floor(fma(_608, 1.44269502162933349609375, 0.5));
                float _944 = fma(_938, 0.00021219444170128554105758666992188, fma(_938, -0.693359375, _608));
                _1162 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _944, 0.00139819993637502193450927734375), _944, 0.008333452045917510986328125), _944, 0.0416657961905002593994140625), _944, 0.1666666567325592041015625), _944, 0.5), _944), _944, _944), 1.0) * as_type<float>(uint(int(_938) + 127) << uint(23));
                break;
            } while(false);
            for (uint _1164 = gl_LocalInvocationID.x; _1164 < 64u; _1164 += THREADS)
            {
                float _627 = spvFSub(scores[_1164], _2779);
                float _1215;
                do
                {
                    if (_627 < (-87.0))
                    {
                        _1215 = 0.0;
                        break;
                    }
                    float _991 = floor(fma(_627, 1.44269502162933349609375, 0.5));
                    float _997 = fma(_991, 0.00021219444170128554105758666992188, fma(_991, -0.693359375, _627));
                    _1215 = spvFAdd(fma(spvFMul(fma(fma(fma(fma(fma(0.00019875691214110702276229858398438, _997, 0.00139819993637502193450927734375), _997, 0.008333452045917510986328125), _997, 0.0416657961905002593994140625), _997, 0.1666666567325592041015625), _997, 0.5), _997), _997, _997), 1.0) * as_type<float>(uint(int(_991) + 127) << uint(23));
                    break;
                } while(false);
                weights[_1164] = _1215;
            }
            threadgroup_barrier(mem_flags::mem_threadgroup);
            for (uint _1165 = 0u; _1165 < 4u; _1165++)
            {
                uint _649 = _1165 * p.span;
                uint _650 = (gl_LocalInvocationID.x % p.span) + _649;
                if ((_649 >= _246) || (_650 >= _246))
                {
                    continue;
                }
                uint _1187;
                float4 _1189;
                _1189 = acc[_1165] * _1162;
                _1187 = _234;
                float4 _3213;
                bool _679;
                for (;;)
                {
                    _679 = _1187 < _285;
                    if (_679)
                    {
                        uint _714 = _212 * p.value_head;
                        uint _717 = ((rows[min(_1187, _400)] * p.value_stride) + _714) + _650;
                        uint _2788 = _1187 + _239;
                        uint _2800 = ((rows[min(_2788, _400)] * p.value_stride) + _714) + _650;
                        uint _2812 = _1187 + (2u * _239);
                        uint _2824 = ((rows[min(_2812, _400)] * p.value_stride) + _714) + _650;
                        uint _2836 = _1187 + (3u * _239);
                        uint _2848 = ((rows[min(_2836, _400)] * p.value_stride) + _714) + _650;
                        uint _2860 = _1187 + (4u * _239);
                        uint _2872 = ((rows[min(_2860, _400)] * p.value_stride) + _714) + _650;
                        uint _2884 = _1187 + (5u * _239);
                        uint _2896 = ((rows[min(_2884, _400)] * p.value_stride) + _714) + _650;
                        uint _2908 = _1187 + (6u * _239);
                        uint _2920 = ((rows[min(_2908, _400)] * p.value_stride) + _714) + _650;
                        uint _2932 = _1187 + (7u * _239);
                        uint _2944 = ((rows[min(_2932, _400)] * p.value_stride) + _714) + _650;
                        float4 _1317;
                        if (_679)
                        {
                            _1317 = float4(fma(weights[_1187], _695.values[_717].x, _1189.x), fma(weights[_1187], _695.values[_717].y, _1189.y), fma(weights[_1187], _695.values[_717].z, _1189.z), fma(weights[_1187], _695.values[_717].w, _1189.w));
                        }
                        else
                        {
                            _1317 = _1189;
                        }
                        float4 _2985;
                        if (_2788 < _285)
                        {
                            _2985 = float4(fma(weights[_2788], _695.values[_2800].x, _1317.x), fma(weights[_2788], _695.values[_2800].y, _1317.y), fma(weights[_2788], _695.values[_2800].z, _1317.z), fma(weights[_2788], _695.values[_2800].w, _1317.w));
                        }
                        else
                        {
                            _2985 = _1317;
                        }
                        float4 _3023;
                        if (_2812 < _285)
                        {
                            _3023 = float4(fma(weights[_2812], _695.values[_2824].x, _2985.x), fma(weights[_2812], _695.values[_2824].y, _2985.y), fma(weights[_2812], _695.values[_2824].z, _2985.z), fma(weights[_2812], _695.values[_2824].w, _2985.w));
                        }
                        else
                        {
                            _3023 = _2985;
                        }
                        float4 _3061;
                        if (_2836 < _285)
                        {
                            _3061 = float4(fma(weights[_2836], _695.values[_2848].x, _3023.x), fma(weights[_2836], _695.values[_2848].y, _3023.y), fma(weights[_2836], _695.values[_2848].z, _3023.z), fma(weights[_2836], _695.values[_2848].w, _3023.w));
                        }
                        else
                        {
                            _3061 = _3023;
                        }
                        float4 _3099;
                        if (_2860 < _285)
                        {
                            _3099 = float4(fma(weights[_2860], _695.values[_2872].x, _3061.x), fma(weights[_2860], _695.values[_2872].y, _3061.y), fma(weights[_2860], _695.values[_2872].z, _3061.z), fma(weights[_2860], _695.values[_2872].w, _3061.w));
                        }
                        else
                        {
                            _3099 = _3061;
                        }
                        float4 _3137;
                        if (_2884 < _285)
                        {
                            _3137 = float4(fma(weights[_2884], _695.values[_2896].x, _3099.x), fma(weights[_2884], _695.values[_2896].y, _3099.y), fma(weights[_2884], _695.values[_2896].z, _3099.z), fma(weights[_2884], _695.values[_2896].w, _3099.w));
                        }
                        else
                        {
                            _3137 = _3099;
                        }
                        float4 _3175;
                        if (_2908 < _285)
                        {
                            _3175 = float4(fma(weights[_2908], _695.values[_2920].x, _3137.x), fma(weights[_2908], _695.values[_2920].y, _3137.y), fma(weights[_2908], _695.values[_2920].z, _3137.z), fma(weights[_2908], _695.values[_2920].w, _3137.w));
                        }
                        else
                        {
                            _3175 = _3137;
                        }
                        if (_2932 < _285)
                        {
                            _3213 = float4(fma(weights[_2932], _695.values[_2944].x, _3175.x), fma(weights[_2932], _695.values[_2944].y, _3175.y), fma(weights[_2932], _695.values[_2944].z, _3175.z), fma(weights[_2932], _695.values[_2944].w, _3175.w));
                        }
                        else
                        {
                            _3213 = _3175;
                        }
                        _1189 = _3213;
                        _1187 += (8u * _239);
                        continue;
                    }
                    else
                    {
                        break;
                    }
                }
                acc[_1165] = _1189;
            }
            float _3455 = (((((((((((((((((((((spvFAdd(spvFMul(_1137, _1162), weights[0u]) + weights[1u]) + weights[2u]) + weights[3u]) + weights[4u]) + weights[5u]) + weights[6u]) + weights[7u]) + weights[8u]) + weights[9u]) + weights[10u]) + weights[11u]) + weights[12u]) + weights[13u]) + weights[14u]) + weights[15u]) + weights[16u]) + weights[17u]) + weights[18u]) + weights[19u]) + weights[20u]) + weights[21u]) + weights[22u];
            float _3708 = ((((((((((((((((((((((_3455 + weights[23u]) + weights[24u]) + weights[25u]) + weights[26u]) + weights[27u]) + weights[28u]) + weights[29u]) + weights[30u]) + weights[31u]) + weights[32u]) + weights[33u]) + weights[34u]) + weights[35u]) + weights[36u]) + weights[37u]) + weights[38u]) + weights[39u]) + weights[40u]) + weights[41u]) + weights[42u]) + weights[43u]) + weights[44u]) + weights[45u];
            _3906 = (((((((((((((((((_3708 + weights[46u]) + weights[47u]) + weights[48u]) + weights[49u]) + weights[50u]) + weights[51u]) + weights[52u]) + weights[53u]) + weights[54u]) + weights[55u]) + weights[56u]) + weights[57u]) + weights[58u]) + weights[59u]) + weights[60u]) + weights[61u]) + weights[62u]) + weights[63u];
        }
        uint _802 = ((((gl_WorkGroupID.x * p.heads) + gl_WorkGroupID.y) * p.max_parts) + gl_WorkGroupID.z) * (p.value_dim + 2u);
        if (gl_LocalInvocationID.x == 0u)
        {
            _810.parts[_802] = _1136;
            _810.parts[_802 + 1u] = _1137;
        }
        if (_239 > 1u)
        {
            sums[gl_LocalInvocationID.x] = acc[0];
            threadgroup_barrier(mem_flags::mem_threadgroup);
            if (_234 != 0u)
            {
                break;
            }
            for (uint _1138 = 1u; _1138 < _239; )
            {
                uint _850 = (_1138 * p.span) + gl_LocalInvocationID.x;
                acc[0] = float4(fma(1.0, sums[_850].x, acc[0].x), fma(1.0, sums[_850].y, acc[0].y), fma(1.0, sums[_850].z, acc[0].z), fma(1.0, sums[_850].w, acc[0].w));
                _1138++;
                continue;
            }
        }
        uint _882 = gl_LocalInvocationID.x % p.span;
        uint _888 = _882 * 4u;
        if (_888 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _888] = acc[0u].x;
        }
        uint _1349 = _888 + 1u;
        if (_1349 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1349] = acc[0u].y;
        }
        uint _1375 = _888 + 2u;
        if (_1375 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1375] = acc[0u].z;
        }
        uint _1401 = _888 + 3u;
        if (_1401 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1401] = acc[0u].w;
        }
        uint _1430 = (_882 + p.span) * 4u;
        if (_1430 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1430] = acc[1u].x;
        }
        uint _1456 = _1430 + 1u;
        if (_1456 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1456] = acc[1u].y;
        }
        uint _1481 = _1430 + 2u;
        if (_1481 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1481] = acc[1u].z;
        }
        uint _1506 = _1430 + 3u;
        if (_1506 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1506] = acc[1u].w;
        }
        uint _1538 = (_882 + (2u * p.span)) * 4u;
        if (_1538 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1538] = acc[2u].x;
        }
        uint _1564 = _1538 + 1u;
        if (_1564 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1564] = acc[2u].y;
        }
        uint _1589 = _1538 + 2u;
        if (_1589 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1589] = acc[2u].z;
        }
        uint _1614 = _1538 + 3u;
        if (_1614 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1614] = acc[2u].w;
        }
        uint _1646 = (_882 + (3u * p.span)) * 4u;
        if (_1646 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1646] = acc[3u].x;
        }
        uint _1672 = _1646 + 1u;
        if (_1672 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1672] = acc[3u].y;
        }
        uint _1697 = _1646 + 2u;
        if (_1697 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1697] = acc[3u].z;
        }
        uint _1722 = _1646 + 3u;
        if (_1722 < p.value_dim)
        {
            _810.parts[(_802 + 2u) + _1722] = acc[3u].w;
        }
        break;
    } while(false);
}

